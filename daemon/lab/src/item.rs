//! What the benchmark asks of a bond: its items in the order of the report, each with what must be reached.
//!
//! The goals themselves stand in the scenarios, each of which names its item; this is what the numbers mean.

/// One item of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// A few words.
    pub title: &'static str,
    /// What is to be reached.
    pub text: &'static str,
    /// What belongs to it and is no scenario: where it is shown.
    pub elsewhere: &'static [&'static str],
    /// Figures without a limit that belong to it: how their names begin, and what they are.
    pub reported: &'static [(&'static str, &'static str)],
}

/// All items; the first is number 1.
pub const ITEMS: [Item; 12] = [
    Item {
        title: "Two equal links",
        text: "Two links of 50 Mbit/s and 10 ms: one flow reaches 95 % of what one flow gets over each link directly, \
               summed (\"the direct sum\"), up and down, CUBIC and BBR alike; then 97.5 %, which needs inner headers \
               that are carried once and not in every packet.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Unequal links",
        text: "50 Mbit/s with 10 ms and 20 with 35: 93 % of the direct sum, then 95 %. Three links, 50/10, 25/35 and \
               10/80: 91 %. In no scenario is a flow slower than over the best link alone by more than the header \
               overhead and 2 %.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Lossy links look lossless",
        text: "One of two links loses 0.5, 1 or 3 %: 90 % of the ideal; both lose 1 %, alone or in bursts of 5: 85 %; \
               radio-like links with wandering delay: 85 %. The flow inside sees at most one loss in 100,000. A policer \
               and a link with 5 ms of buffer stand beside, so that indifference to loss does not become blindness.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Rates that move",
        text: "A link falls to a tenth and comes back: our queue there under 300 ms within 1 s, 80 % of the new rate \
               within 3 s. Links that follow cellular packet-delivery traces: 80 % of their sum, with a median added \
               delay of at most 40 ms, throughput and 99th percentile no worse than BBR's over the best trace alone.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Death of a link",
        text: "Silent, during a transfer, in `speed`: no gap longer than the dying path's round trip, what the survivor \
               takes longer one way, and 20 ms; nothing lost; TCP never at zero for 0.1 s. In `redundant` nothing is \
               lost and the 99.9th percentile is within 2 ms of a plain probe's. A pulled plug: under 20 ms. A healed \
               link is used within 2 s, a flapping one held off, one that turns bad left within 0.5 s. On live links \
               that vary: copies at most 2 % of bytes, less than one suspicion a minute, no death declared.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Latency under full load",
        text: "Another flow's ping at most 20 ms above idle, with 250 ms of queue in the links.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Others on the same WAN",
        text: "Beside a plain TCP flow on one of two links the bond takes between a third and two thirds of that link \
               over 120 s, for CUBIC and BBR neighbours.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Many flows",
        text: "64 flows reach 96 % of what one reaches, with Jain's index of at least 0.95; a page of 30 short \
               connections beside a bulk download takes at most 1.3 times its time alone.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Raw speed",
        text: "No emulated limits, one path and two: one TCP flow at least twice as fast as a current wireguard-go, for \
               which 10 times Debian's package stands where only that is at hand; two thirds of a bare shovel \
               (AES-GCM and segmentation offload without any protocol), then three quarters; the same from a LAN host \
               without segmentation offload. Datagrams of 64 bytes: 2.5 times wireguard-go. Instructions and system \
               calls per packet are reported; steady state allocates nothing per packet.",
        reported: &[
            ("bond.system_calls_per_packet.", "System calls per packet"),
            ("bond.instructions_per_packet.", "Instructions per packet"),
        ],
        elsewhere: &["No allocation per packet: `cargo test --release -p sennit-engine --test allocation`"],
    },
    Item {
        title: "Small machine",
        text: "At most 40 MB resident a side under full load, a static binary of at most 5 MB stripped, at most 0.3 % of \
               a processor and 40 KB an hour on a metered WAN when idle. Narrow uplinks (100/1 and 50/2 Mbit/s): a \
               download reaches 90 % of the ideal, and all that the tunnel sends up (its own acknowledgements at most \
               5 %, inner ones at most 30 %) takes at most 35 % of the uplinks.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Many clients",
        text: "One server, many clients with two paths each: none starves (Jain's index at least 0.9), the cost per \
               client stays flat, and 10,000 hostile initiations a second take less than a tenth of the goodput.",
        elsewhere: &[],
        reported: &[],
    },
    Item {
        title: "Whatever happens",
        text: "Both daemons are killed during transfers: the flows go on, and not one inner packet is seen on a WAN. A \
               host behind the client, whose packets come one by one, is as fast as the client itself.",
        elsewhere: &[],
        reported: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::ITEMS;
    use crate::scenario::Scenario;

    #[test]
    fn every_item_has_a_scenario_and_every_scenario_of_the_benchmark_an_item() {
        let scenarios = Scenario::all().expect("they parse");
        for number in 1..=ITEMS.len() {
            assert!(
                scenarios.iter().any(|one| one.bench && one.item == number),
                "item {number} has no scenario"
            );
        }
        for scenario in scenarios {
            assert_eq!(scenario.bench, scenario.item > 0, "{}", scenario.name);
            assert!(!scenario.bench || !scenario.goals.is_empty(), "{}", scenario.name);
        }
    }
}
