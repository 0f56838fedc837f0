//! How far each server is, over each WAN, and how busy: one handshake that is begun and not used.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sennit_engine::crypto::Suite;
use sennit_engine::handshake::{self, InitiationPayload, Initiator};
use sennit_engine::ids::{PathId, ReceiverIndex};
use sennit_engine::settings::{Encryption, Mode};
use serde::Serialize;

use crate::config::ServerConfigOfClient;
use crate::key::PrivateKey;
use crate::netlink::Family;
use crate::udp::{Outgoing, Receiver, UdpSocket};
use crate::wan::Uplink;
use crate::{Result, key};

/// How long an answer is waited for, and when the question is asked again.
const PATIENCE: Duration = Duration::from_millis(1500);
const AGAIN: Duration = Duration::from_millis(500);

/// What was found of one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Measured {
    /// Its name.
    pub(super) name: String,
    /// Round trips by WAN, milliseconds; a WAN over which it did not answer is absent.
    pub(super) rtt_ms: BTreeMap<String, f64>,
    /// How busy it is, percent.
    pub(super) load: Option<u8>,
}

/// A server to ask, and its addresses.
pub(super) type Asked = (ServerConfigOfClient, Vec<SocketAddr>);

/// One question over one WAN.
struct Question {
    server: usize,
    device: String,
    socket: UdpSocket,
    remote: SocketAddr,
    sent: Instant,
}

/// Asks all servers at once over all WANs that can be used. Blocks for at most [`PATIENCE`].
pub(super) fn measure(private: &PrivateKey, servers: &[Asked], uplinks: &[Uplink]) -> Result<Vec<Measured>> {
    let mut seed = [0; 32];
    key::random(&mut seed)?;
    let mut random = ChaCha12Rng::from_seed(seed);
    let private = handshake::PrivateKey::from_bytes(private.as_bytes());
    let mut measured = Vec::new();
    let mut handshakes = Vec::new();
    let mut questions = Vec::new();
    for (index, (server, addresses)) in servers.iter().enumerate() {
        measured.push(Measured {
            name: server.name.clone(),
            ..Measured::default()
        });
        let payload = InitiationPayload {
            version: handshake::VERSION,
            suites: Suite::offer(false, Encryption::On),
            instance: random.next_u64() | 1,
            peer_instance: 0,
            receiver: ReceiverIndex(random.next_u32() & 0x00ff_ffff),
            mode: Mode::Speed,
            path: PathId(0),
        };
        let preshared = server.keys.preshared.as_ref();
        let preshared = preshared.map(|key| handshake::PresharedKey::from_bytes(key.as_bytes()));
        let remote_key = handshake::PublicKey(*server.keys.public.as_bytes());
        let begun = Initiator::start(
            &private,
            &remote_key,
            preshared.as_ref(),
            &payload,
            None,
            &mut random,
        );
        handshakes.push(begun.ok());
        for uplink in uplinks {
            let remote = addresses
                .iter()
                .find(|remote| uplink.has(Family::of(remote.ip())));
            let Some(remote) = remote.copied() else { continue };
            // A WAN without a socket has no answer.
            if let Ok(socket) = UdpSocket::on_device(&uplink.device, remote.is_ipv6()) {
                questions.push(Question {
                    server: index,
                    device: uplink.device.clone(),
                    socket,
                    remote,
                    sent: Instant::now(),
                });
            }
        }
    }
    let began = Instant::now();
    let mut receiver = Receiver::default();
    let mut answers: Vec<Option<Vec<u8>>> = vec![None; servers.len()];
    for attempt in 0..(PATIENCE.as_millis() / AGAIN.as_millis()) as u32 {
        questions.retain(|question| !measured[question.server].rtt_ms.contains_key(&question.device));
        for question in &mut questions {
            if let Some((_, datagram)) = &handshakes[question.server] {
                question.sent = Instant::now();
                ask(question, datagram);
            }
        }
        while !questions.is_empty() && began.elapsed() < AGAIN * (attempt + 1) {
            wait(&questions, AGAIN * (attempt + 1) - began.elapsed());
            for question in &questions {
                let arrived = Instant::now();
                // A WAN that refuses is one of several.
                let _ = receiver.receive(&question.socket, |_, data| {
                    let handshake = &mut handshakes[question.server];
                    let answer = &mut answers[question.server];
                    let of = &mut measured[question.server];
                    let good = match answer {
                        // The same question has the same answer, on every WAN.
                        Some(answer) => **answer == *data,
                        None => match handshake
                            .as_mut()
                            .map(|(begun, _)| (begun.finish(&data), begun.cookie(&data)))
                        {
                            Some((Ok((_, payload)), _)) => {
                                of.load = Some(payload.load);
                                *answer = Some(data.to_vec());
                                true
                            }
                            // It is there, and has too much to do to say more.
                            Some((Err(_), Some(_))) => {
                                of.load = Some(100);
                                true
                            }
                            _ => false,
                        },
                    };
                    if good {
                        let rtt = arrived.saturating_duration_since(question.sent);
                        of.rtt_ms
                            .entry(question.device.clone())
                            .or_insert(rtt.as_secs_f64() * 1000.0);
                    }
                });
            }
            questions.retain(|question| !measured[question.server].rtt_ms.contains_key(&question.device));
        }
    }
    Ok(measured)
}

fn ask(question: &Question, datagram: &[u8]) {
    let message = Outgoing {
        data: datagram,
        segment: datagram.len(),
        remote: question.remote,
        local: None,
    };
    question.socket.send(&[message], |_, _| {});
}

fn wait(questions: &[Question], longest: Duration) {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(longest.subsec_nanos()),
    };
    let mut descriptors: Vec<PollFd<'_>> = questions
        .iter()
        .map(|question| PollFd::new(&question.socket, PollFlags::IN))
        .collect();
    // An interrupted wait is a short one.
    let _ = poll(&mut descriptors, Some(&timeout));
}

/// What a WAN without an answer counts, milliseconds.
const SILENT_WAN: f64 = 500.0;
/// From this load on, percent, a server is worse for each percent more, by this many milliseconds.
const BUSY: u8 = 70;
const BUSY_COSTS: f64 = 5.0;

impl Measured {
    /// Lower is better; nothing if it did not answer. The mean round trip over the WANs that any server answered on:
    /// a bond uses them all.
    pub(super) fn cost(&self, wans: usize) -> Option<f64> {
        if self.rtt_ms.is_empty() {
            return None;
        }
        let silent = wans.saturating_sub(self.rtt_ms.len()) as f64 * SILENT_WAN;
        let mean = (self.rtt_ms.values().sum::<f64>() + silent) / wans.max(1) as f64;
        let busy = f64::from(self.load.unwrap_or(0).saturating_sub(BUSY)) * BUSY_COSTS;
        Some(mean + busy)
    }
}

/// The best server of those that `may` be chosen, and what it costs.
pub(super) fn best(measured: &[Measured], may: impl Fn(&str) -> bool) -> Option<(&str, f64)> {
    let wans: std::collections::BTreeSet<&String> = measured
        .iter()
        .flat_map(|measured| measured.rtt_ms.keys())
        .collect();
    measured
        .iter()
        .filter(|measured| may(&measured.name))
        .filter_map(|measured| Some((measured.name.as_str(), measured.cost(wans.len())?)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &str, rtt_ms: &[(&str, f64)], load: u8) -> Measured {
        Measured {
            name: name.to_owned(),
            rtt_ms: rtt_ms
                .iter()
                .map(|(wan, rtt)| ((*wan).to_owned(), *rtt))
                .collect(),
            load: Some(load),
        }
    }

    #[test]
    fn the_nearest_over_all_wans_is_the_best() {
        let near = measured("near", &[("eth1", 20.0), ("wwan0", 60.0)], 10);
        let far = measured("far", &[("eth1", 90.0), ("wwan0", 130.0)], 0);
        // Nearer by one WAN, and not there by the other.
        let half = measured("half", &[("eth1", 5.0)], 0);
        let silent = measured("silent", &[], 0);
        let all = [far, silent, half, near];
        assert_eq!(best(&all, |_| true).unwrap().0, "near");
        assert_eq!(best(&all, |name| name != "near").unwrap().0, "far");
        assert_eq!(best(&all, |name| name == "silent"), None);
    }

    #[test]
    fn a_server_with_too_much_to_do_is_left_for_one_that_is_farther() {
        let near = measured("near", &[("eth1", 20.0)], 95);
        let far = measured("far", &[("eth1", 90.0)], 50);
        assert_eq!(best(&[near, far.clone()], |_| true).unwrap().0, "far");
        let near = measured("near", &[("eth1", 20.0)], 60);
        assert_eq!(best(&[near, far], |_| true).unwrap().0, "near");
    }
}
