//! `sennit server init`: key, configuration, program and service, each only if it is not as it should be.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Change, Installed, PublicAddresses, Supervisor, Work, has, keeper};
use crate::config::{self, DEFAULT_KEY_PATH, DEFAULT_PATH, Endpoint, Forwarding, Protocol, ServerConfig};
use crate::control::{Caller, Request};
use crate::join::{Code, FirstContact};
use crate::key::{PrivateKey, PublicKey};
use crate::netlink::{Inventory, Netlink};
use crate::registry::{self, Registry};
use crate::system::filters::{self, Opening};
use crate::system::{write_atomically, write_with_mode};
use crate::{Error, Result, port};

/// Where the program goes if it lies where no service should start it from.
const PROGRAM: &str = "/usr/local/bin/sennit";
/// Folders of installed programs.
const PROGRAM_FOLDERS: [&str; 6] = [
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
];
/// How long the server may take to answer after its start.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Hosts by which clients reach this machine; none: what its interfaces have.
    pub addresses: Vec<String>,
    /// UDP port on which they do.
    pub port: u16,
    /// The client that this server is made for, if cloud-init makes it.
    pub first_contact: Option<Awaited>,
}

/// The client of a first contact.
#[derive(Clone, Debug)]
pub struct Awaited {
    /// The code that it made.
    pub code: Code,
    /// What it is called.
    pub name: String,
    /// Its key.
    pub public_key: PublicKey,
}

/// What there is now.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Who this server is; `None` after a rehearsal that would have made the key.
    pub public_key: Option<PublicKey>,
    /// Where clients reach it.
    pub public: Vec<Endpoint>,
    /// Interfaces with a default route.
    pub interfaces: Vec<String>,
    /// Its program.
    pub program: PathBuf,
    /// Who starts it; `None`: nobody that we know.
    pub supervisor: Option<Supervisor>,
    /// Ports in the range of the only client that stay with this machine, as `tcp/8080`.
    pub kept: Vec<String>,
}

/// Makes this machine a server. What is there and right stays as it is.
pub fn init(wish: &Wish, work: &mut Work<'_>) -> Result<Outcome> {
    require_root()?;
    require_tun()?;
    require_nft()?;
    let config_path = Path::new(DEFAULT_PATH);
    let known = match config_path.exists() {
        true => Some(config::read::<ServerConfig>(Some(config_path))?),
        false => None,
    };
    let supervisor = Supervisor::find();
    let running = supervisor.is_some_and(Supervisor::is_running);
    let listen = known.as_ref().map_or_else(
        || vec![SocketAddr::new([0u16; 8].into(), wish.port)],
        |config| config.listen.clone(),
    );
    if !running {
        listen.iter().try_for_each(|address| require_free(*address))?;
    }
    let common = known
        .as_ref()
        .map(|config| config.common.clone())
        .unwrap_or_default();
    let inventory = Netlink::open()
        .and_then(|mut netlink| Inventory::read(&mut netlink))
        .map_err(|error| {
            Error::environment(
                format!("failed to ask the kernel about interfaces: {error}"),
                "run this command as root",
            )
        })?;
    let addresses = PublicAddresses::find(&inventory, &common.interface)?;
    let public = public_endpoints(wish, known.as_ref(), &addresses, &listen)?;

    let mut installed = Installed::open(&common.state_dir)?;
    let key = make_key(known.as_ref(), &mut installed, work)?;
    if known.is_none() {
        work.step(&format!("writes the configuration {DEFAULT_PATH}"), || {
            installed.remember(Change::Setting {
                path: config_path.to_owned(),
            })?;
            write_atomically(config_path, configuration(&public, wish.port).as_bytes())?;
            config::read::<ServerConfig>(Some(config_path)).map(|_| ())
        })?;
    }
    if let Some(awaited) = &wish.first_contact
        && !running
    {
        work.step(&format!("awaits the client {}", awaited.name), || {
            await_client(awaited)
        })?;
    }
    let filters = filters::survey();
    let opening = Opening {
        tunnel: common.interface.clone(),
        ports: listen.iter().map(SocketAddr::port).collect(),
    };
    keeper::open(&filters, &opening, &addresses.interfaces, &mut installed, work)?;
    let opens = known.as_ref().is_none_or(|config| config.open_filters);
    for filter in &filters {
        if opens && !filters::rules(filter, &opening).is_empty() && !running {
            (work.tell)(&format!(
                "has the server open the packet filter {} at each start",
                filter.name()
            ));
        }
    }
    let (program, new_program) = install_program(&mut installed, work)?;
    match supervisor {
        Some(supervisor) => {
            let new_file = install_service(supervisor, &program, &mut installed, work)?;
            if new_program || new_file || !running {
                work.step("starts the server", || supervisor.restart())?;
                if !work.dry {
                    wait_for_answer(&common.control, supervisor)?;
                }
            }
        }
        None => (work.tell)(
            "finds neither systemd nor OpenRC: have `sennit run server` started by what starts programs here",
        ),
    }
    let kept = match work.dry && known.is_none() {
        true => Vec::new(),
        false => kept_ports(&config::read::<ServerConfig>(Some(config_path))?),
    };
    Ok(Outcome {
        public_key: key,
        public,
        interfaces: addresses.interfaces,
        program,
        supervisor,
        kept,
    })
}

/// Ports that stay with this machine although they lie in the range that leads to the only client.
pub fn kept_ports(config: &ServerConfig) -> Vec<String> {
    if !config.nat || config.forward == Forwarding::None {
        return Vec::new();
    }
    let mut ports = port::waiting();
    ports.extend(
        config
            .listen
            .iter()
            .map(|address| (Protocol::Udp, address.port())),
    );
    ports
        .iter()
        .filter(|(_, port)| *port >= 1024)
        .map(|(protocol, port)| format!("{}/{port}", protocol.names().concat()))
        .collect()
}

fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::environment(
        "a server is set up by root only",
        "sudo sennit server init",
    ))
}

fn require_tun() -> Result<()> {
    let device = Path::new("/dev/net/tun");
    let open = || std::fs::OpenOptions::new().read(true).write(true).open(device);
    if open().is_err() {
        // Where the kernel does not load it by itself.
        let _ = super::run(&["modprobe", "tun"]);
    }
    open().map(|_| ()).map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => {
                "this is a container that may not use it: allow the device (docker run --device /dev/net/tun --cap-add \
                 NET_ADMIN), or use a real VM"
            }
            _ => "modprobe tun; in a container the host must give it: --device /dev/net/tun --cap-add NET_ADMIN",
        };
        Error::environment(format!("this machine has no TUN device ({}): {error}", device.display()), hint)
    })
}

fn require_nft() -> Result<()> {
    if has("nft") {
        return Ok(());
    }
    let install = [
        ("apt-get", "apt-get update && apt-get install -y nftables"),
        ("apk", "apk add nftables"),
        ("dnf", "dnf install -y nftables"),
        ("zypper", "zypper install -y nftables"),
        ("pacman", "pacman -S --noconfirm nftables"),
    ];
    let hint = install
        .iter()
        .find(|(program, _)| has(program))
        .map_or("install the package nftables", |(_, command)| command);
    Err(Error::environment(
        "the program nft is missing: the firewall cannot be set",
        hint,
    ))
}

fn require_free(address: SocketAddr) -> Result<()> {
    let outcome = match UdpSocket::bind(address) {
        // Without IPv6 the server listens on IPv4 alone.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            UdpSocket::bind(("0.0.0.0", address.port()))
        }
        outcome => outcome,
    };
    match outcome {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let by = port::holder(address.port())
                .map(|holder| format!(" by {holder}"))
                .unwrap_or_default();
            Err(Error::environment(
                format!("UDP port {} is in use{by}", address.port()),
                "stop that program, or choose another port: sennit server init --port PORT",
            ))
        }
        Err(error) => Err(Error::user(
            format!("nothing can listen on UDP {address}: {error}"),
            "correct the key listen, or choose another port: sennit server init --port PORT",
        )),
        Ok(_) => Ok(()),
    }
}

/// What was asked for, else what the configuration says, else what the interfaces have.
fn public_endpoints(
    wish: &Wish,
    known: Option<&ServerConfig>,
    found: &PublicAddresses,
    listen: &[SocketAddr],
) -> Result<Vec<Endpoint>> {
    let port = listen.first().map_or(wish.port, SocketAddr::port);
    if let Some(config) = known {
        let asked: Vec<&String> = wish
            .addresses
            .iter()
            .filter(|host| !config.public.iter().any(|public| public.host == **host))
            .collect();
        if let Some(host) = asked.first() {
            return Err(Error::user(
                format!("{DEFAULT_PATH} exists and does not say that clients reach this server by {host}"),
                format!(
                    "write it there: public = [\"{host}:{port}\"], and repeat this command without --address"
                ),
            ));
        }
        if !config.public.is_empty() {
            return Ok(config.public.clone());
        }
    }
    if wish.addresses.is_empty() {
        let endpoint = |address: &IpAddr| Endpoint {
            host: address.to_string(),
            port,
        };
        return match found.or_advice() {
            Ok(addresses) => Ok(addresses.iter().map(endpoint).collect()),
            // Its client has the address from the provider.
            Err(_) if wish.first_contact.is_some() => Ok(Vec::new()),
            Err(error) => Err(error),
        };
    }
    let named = wish.addresses.iter().map(|host| {
        let text = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            _ => format!("{host}:{port}"),
        };
        text.parse::<Endpoint>().map_err(|error| {
            Error::user(
                error,
                "name a host or an address without port: --address 203.0.113.5",
            )
        })
    });
    named.collect()
}

fn make_key(
    known: Option<&ServerConfig>,
    installed: &mut Installed,
    work: &mut Work<'_>,
) -> Result<Option<PublicKey>> {
    use config::KeySource;
    let path = match known.map(|config| &config.key) {
        Some(KeySource::Inline(key)) => return Ok(Some(key.public())),
        Some(KeySource::File(path)) => path.clone(),
        None => DEFAULT_KEY_PATH.into(),
    };
    if path.exists() {
        return Ok(Some(PrivateKey::read(&path)?.public()));
    }
    let mut public = None;
    work.step(&format!("makes the private key {}", path.display()), || {
        installed.remember(Change::Setting { path: path.clone() })?;
        let key = PrivateKey::generate()?;
        key.write(&path, false)?;
        public = Some(key.public());
        Ok(())
    })?;
    Ok(public)
}

fn configuration(public: &[Endpoint], port: u16) -> String {
    let public: Vec<String> = public.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!(
        "# Written by `sennit server init`. docs/configuration.md lists every key.\n\
         # Where clients reach this server.\n\
         public = [{}]\n\
         listen = [\"[::]:{port}\"]\n\
         # Other packet filters of this machine let the tunnel through.\n\
         open_filters = true\n",
        public.join(", ")
    )
}

/// Before the server starts, which has the registry to itself from then on.
fn await_client(awaited: &Awaited) -> Result<()> {
    let config: ServerConfig = config::read(Some(Path::new(DEFAULT_PATH)))?;
    let registry = Registry::open(&config.common.state_dir)?;
    let now = registry::now();
    FirstContact::prepare(
        &registry,
        &config,
        &awaited.code,
        &awaited.name,
        awaited.public_key,
        now,
    )
}

/// The program that the service starts, and whether it is new.
fn install_program(installed: &mut Installed, work: &mut Work<'_>) -> Result<(PathBuf, bool)> {
    let failed = |what: &str, error: io::Error| {
        Error::environment(
            format!("failed to {what}: {error}"),
            "run this command as root, from a folder where programs may be started",
        )
    };
    let own = std::env::current_exe().map_err(|error| failed("find this program's file", error))?;
    if PROGRAM_FOLDERS
        .iter()
        .any(|folder| own.parent() == Some(Path::new(folder)))
    {
        return Ok((own, false));
    }
    let target = PathBuf::from(PROGRAM);
    let bytes = std::fs::read(&own).map_err(|error| failed("read this program's file", error))?;
    if std::fs::read(&target).is_ok_and(|present| present == bytes) {
        return Ok((target, false));
    }
    work.step(&format!("copies this program to {PROGRAM}"), || {
        installed.remember(Change::File { path: target.clone() })?;
        write_with_mode(&target, &bytes, 0o755)
    })?;
    Ok((target, true))
}

/// Whether the service's file is new.
fn install_service(
    supervisor: Supervisor,
    program: &Path,
    installed: &mut Installed,
    work: &mut Work<'_>,
) -> Result<bool> {
    let (path, text) = (supervisor.file(), supervisor.text(program));
    let is_new = std::fs::read_to_string(path).map_or(true, |present| present != text);
    if is_new {
        work.step(&format!("writes the service {}", path.display()), || {
            installed.remember(Change::File {
                path: path.to_owned(),
            })?;
            if let Some(log) = supervisor.log_file() {
                installed.remember(Change::Setting { path: log.to_owned() })?;
            }
            write_with_mode(path, text.as_bytes(), supervisor.mode())
        })?;
    }
    if is_new || !supervisor.is_enabled() {
        work.step("has the service start with the machine", || {
            installed.remember(Change::Service { supervisor })?;
            supervisor.enable()
        })?;
    }
    Ok(is_new)
}

fn wait_for_answer(control: &Path, supervisor: Supervisor) -> Result<()> {
    let start = Instant::now();
    loop {
        let answer = Caller::connect(control).and_then(|mut caller| caller.ask(&Request::Status {}));
        match answer {
            Ok(_) => return Ok(()),
            Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(100)),
            Err(_) => {
                return Err(Error::environment(
                    "the service was started, but the server does not answer",
                    format!("its log says why: {}", supervisor.log()),
                ));
            }
        }
    }
}
