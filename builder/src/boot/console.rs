//! A conversation with a booting router over its serial console, as a state machine without I/O or clock.
//!
//! OpenWrt's console wakes by Enter and gives a shell long before the router's services are up; kernel messages may
//! run into any line. So the probe is asked again until it tells of the same running service twice.

use std::time::Duration;

use super::probe::{self, Answer, Findings};

/// What the console says when it can be woken.
const ACTIVATION: &str = "Please press Enter to activate this console";
/// A prompt may hide behind kernel messages: after this long the probe is sent without having seen one.
const PROMPT_WAIT: Duration = Duration::from_secs(8);
/// Time between the end of one probe and the next.
const REST: Duration = Duration::from_secs(2);
/// A probe that has not ended by then was garbled and is sent again.
const PROBE_WAIT: Duration = Duration::from_secs(20);

/// Lines after which nothing good can come, and what they mean.
const DEAD_ENDS: [(&str, &str); 5] = [
    ("Kernel panic - not syncing", "its kernel panicked"),
    ("grub rescue>", "GRUB did not find its configuration"),
    ("No bootable device", "the BIOS found no boot loader"),
    (
        "BdsDxe: No bootable option",
        "the EFI firmware found no boot loader",
    ),
    ("UEFI Interactive Shell", "the EFI firmware found no boot loader"),
];

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Type this.
    Send(String),
    /// The router is up, twice found so.
    Up(Findings),
    /// It will not come up.
    Dead(&'static str),
    /// Nothing; ask again after output or at this time.
    Wait(Duration),
}

#[derive(Debug)]
enum Phase {
    Booting,
    /// Enter was pressed at this time.
    Waking(Duration),
    /// A probe runs since this time.
    Probing(Duration),
    /// The next probe is due at this time.
    Resting(Duration),
}

/// The conversation. Times are counted from the start of the machine.
#[derive(Debug)]
pub(super) struct Console {
    phase: Phase,
    /// Everything said so far.
    text: String,
    /// An incomplete UTF-8 sequence at the end of the last output.
    rest: Vec<u8>,
    /// Where in `text` the answer to the last thing typed begins.
    answer: usize,
    /// Where in `text` the search for dead ends goes on.
    searched: usize,
    round: u32,
    last: Option<Findings>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            phase: Phase::Booting,
            text: String::new(),
            rest: Vec::new(),
            answer: 0,
            searched: 0,
            round: 0,
            last: None,
        }
    }
}

impl Console {
    /// Takes output of the console.
    pub(super) fn handle_output(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        loop {
            let (valid, invalid) = match std::str::from_utf8(&self.rest) {
                Ok(text) => (text.len(), None),
                Err(error) => (error.valid_up_to(), error.error_len()),
            };
            self.text.push_str(&String::from_utf8_lossy(&self.rest[..valid]));
            self.rest.drain(..valid + invalid.unwrap_or(0));
            if invalid.is_none() {
                return;
            }
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// What the last complete probe found, whatever it was.
    pub(super) fn findings(&self) -> Option<&Findings> {
        self.last.as_ref()
    }

    /// True once the console's shell was asked something.
    pub(super) fn has_shell(&self) -> bool {
        self.round > 0
    }

    /// The last `count` lines that are not empty, without control sequences and without our own questions.
    pub(super) fn last_lines(&self, count: usize) -> Vec<String> {
        let plain = plain(&self.text);
        let lines: Vec<&str> = plain
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty() && !probe::is_echo(line))
            .collect();
        lines[lines.len().saturating_sub(count)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }

    /// Decides what to do at `now`; call it again until it says [`Step::Wait`].
    pub(super) fn poll(&mut self, now: Duration) -> Step {
        if let Some(reason) = self.dead_end() {
            return Step::Dead(reason);
        }
        match self.phase {
            Phase::Booting => {
                if self.text.contains(ACTIVATION) {
                    self.answer = self.text.len();
                    self.phase = Phase::Waking(now);
                    return Step::Send("\n".into());
                }
                Step::Wait(Duration::MAX)
            }
            Phase::Waking(since) => {
                if now >= since + PROMPT_WAIT || is_prompt(&self.text[self.answer..]) {
                    return self.send_probe(now);
                }
                Step::Wait(since + PROMPT_WAIT)
            }
            Phase::Probing(since) => match probe::parse(&plain(&self.text[self.answer..]), self.round) {
                Some(findings) => {
                    let before = self.last.replace(findings.clone());
                    if findings.is_up()
                        && before.is_some_and(|before| before.service_pid == findings.service_pid)
                    {
                        return Step::Up(findings);
                    }
                    self.phase = Phase::Resting(now + REST);
                    Step::Wait(now + REST)
                }
                None if now >= since + PROBE_WAIT => self.send_probe(now),
                None => Step::Wait(since + PROBE_WAIT),
            },
            Phase::Resting(until) if now >= until => self.send_probe(now),
            Phase::Resting(until) => Step::Wait(until),
        }
    }

    /// What to type so that a router that is up runs these commands; its answer comes by [`Console::answer`].
    pub(super) fn ask(&mut self, commands: &str) -> String {
        self.round += 1;
        self.answer = self.text.len();
        probe::typed(self.round, commands)
    }

    /// The whole answer to what was asked last.
    pub(super) fn answer(&self) -> Option<Answer> {
        Answer::of(&plain(&self.text[self.answer..]), self.round)
    }

    fn send_probe(&mut self, now: Duration) -> Step {
        self.round += 1;
        self.answer = self.text.len();
        self.phase = Phase::Probing(now);
        Step::Send(probe::script(self.round))
    }

    fn dead_end(&mut self) -> Option<&'static str> {
        if self.round == 0 && self.text.ends_with("login: ") {
            return Some("its console asks for a login");
        }
        let new = &self.text[self.searched..];
        let found = DEAD_ENDS
            .iter()
            .find(|(line, _)| new.contains(line))
            .map(|(_, reason)| *reason);
        // The next search begins a little earlier: a phrase may arrive in two pieces.
        let longest = DEAD_ENDS.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
        let mut from = self.text.len().saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.searched = from;
        found
    }
}

/// True if the text ends in a root shell's prompt.
fn is_prompt(text: &str) -> bool {
    plain(text).trim_end_matches(' ').ends_with('#')
}

/// The text without terminal control sequences and carriage returns.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' if characters.peek() == Some(&'[') => {
                characters.next();
                // Parameters, then one final letter.
                for part in characters.by_ref() {
                    if part.is_ascii_alphabetic() {
                        break;
                    }
                }
            }
            '\n' | '\t' => plain.push(character),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A console on which Enter was just pressed.
    fn woken() -> Console {
        let mut console = Console::default();
        console.handle_output(b"[    0.1] Linux version 6.6\r\n\r\nPlease press Enter ");
        assert_eq!(console.poll(SECOND), Step::Wait(Duration::MAX));
        console.handle_output(b"to activate this console.\r\n");
        assert_eq!(console.poll(SECOND), Step::Send("\n".into()));
        console
    }

    fn answer(console: &mut Console, round: u32, pid: &str) {
        let running = if pid.is_empty() { "no" } else { "yes" };
        let text = format!(
            "@sennit:kernel=6.6.144:@\r\n@sennit:machine=x86_64:@\r\n@sennit:init=procd:@\r\n\
             @sennit:system=OpenWrt 24.10.8:@\r\n@sennit:uptime=17:@\r\n@sennit:running={running}:@\r\n\
             @sennit:pid={pid}:@\r\n@sennit:interface=yes:@\r\n@sennit:done={round}:@\r\nroot@OpenWrt:/# "
        );
        console.handle_output(text.as_bytes());
    }

    #[test]
    fn it_presses_enter_waits_for_the_prompt_and_probes_until_the_service_stays() {
        let mut console = woken();
        console.handle_output(b"\r\nBusyBox v1.36\r\n");
        assert!(matches!(console.poll(2 * SECOND), Step::Wait(_)));
        console.handle_output(b"root@(none):/# \x1b[6n");
        assert_eq!(console.poll(2 * SECOND), Step::Send(probe::script(1)));

        answer(&mut console, 1, "");
        assert_eq!(
            console.poll(3 * SECOND),
            Step::Wait(5 * SECOND),
            "not running yet: rest, then ask again"
        );
        assert_eq!(console.poll(5 * SECOND), Step::Send(probe::script(2)));
        answer(&mut console, 2, "811");
        assert_eq!(
            console.poll(6 * SECOND),
            Step::Wait(8 * SECOND),
            "once is not enough"
        );
        assert_eq!(console.poll(8 * SECOND), Step::Send(probe::script(3)));
        answer(&mut console, 3, "902");
        assert_eq!(
            console.poll(9 * SECOND),
            Step::Wait(11 * SECOND),
            "it crashed and was started again"
        );
        assert_eq!(console.poll(11 * SECOND), Step::Send(probe::script(4)));
        answer(&mut console, 4, "902");
        let Step::Up(findings) = console.poll(12 * SECOND) else {
            panic!("not up")
        };
        assert_eq!(findings.service_pid, Some(902));
    }

    #[test]
    fn a_prompt_hidden_by_kernel_messages_does_not_stop_it() {
        let mut console = woken();
        console.handle_output(b"root@OpenWrt:/# [   21.9] tun: Universal TUN/TAP device driver\r\n");
        assert!(matches!(console.poll(2 * SECOND), Step::Wait(_)));
        assert_eq!(console.poll(9 * SECOND), Step::Send(probe::script(1)));
    }

    #[test]
    fn the_echo_of_the_script_is_not_taken_for_its_answer_and_a_lost_answer_is_asked_again() {
        let mut console = woken();
        console.handle_output(b"/ # ");
        let Step::Send(script) = console.poll(2 * SECOND) else {
            panic!("no probe")
        };
        console.handle_output(script.as_bytes());
        assert_eq!(console.poll(3 * SECOND), Step::Wait(22 * SECOND));
        assert_eq!(console.poll(22 * SECOND), Step::Send(probe::script(2)));
        answer(&mut console, 1, "5");
        assert!(
            matches!(console.poll(23 * SECOND), Step::Wait(_)),
            "the answer to an older round does not count"
        );
    }

    #[test]
    fn dead_ends_are_seen_even_in_pieces() {
        let mut console = Console::default();
        console.handle_output(b"[ 1.0] Kernel pan");
        assert_eq!(console.poll(SECOND), Step::Wait(Duration::MAX));
        console.handle_output("ic - not syncing: VFS: Unable to mount root fs \u{1F4A5}".as_bytes());
        assert_eq!(console.poll(SECOND), Step::Dead("its kernel panicked"));
    }

    #[test]
    fn a_console_that_wants_a_login_is_a_dead_end() {
        let mut console = woken();
        console.handle_output(b"\r\nOpenWrt login: ");
        assert_eq!(
            console.poll(2 * SECOND),
            Step::Dead("its console asks for a login")
        );
    }

    #[test]
    fn last_lines_are_readable() {
        let mut console = Console::default();
        console.handle_output(b"\x1b[2J\x1b[01;01HGNU GRUB\r\n\r\n\x1b[0mBooting `OpenWrt'\r\n\xff\xe2\x82");
        console.handle_output(b"\xac");
        assert_eq!(console.last_lines(2), ["Booting `OpenWrt'", "\u{fffd}\u{20ac}"]);
    }
}
