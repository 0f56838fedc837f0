//! A bulk transfer over QUIC (quinn), which has no DSACK and counts three packets as a loss: what browsers use.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};

use super::bulk::{BulkPlan, BulkReport, FlowReport};
use super::socket::{answering, unconnected};
use super::{Progress, Reach, Running, TcpInfo, Window};
use crate::emulator::{BIN, Way};
use crate::namespace::Namespace;
use crate::sys::clock;
use crate::{Error, Result};

/// What scenarios call it, in the place of a congestion control: quinn runs CUBIC of its own.
pub const NAME: &str = "quic";
/// The name in the server's certificate.
const HOST: &str = "lab.invalid";
/// Stream data that may be under way: more than any scenario's delay needs.
const ROOM: u32 = 16 << 20;

fn failed(what: &str, error: impl std::fmt::Display) -> Error {
    Error::environment(format!("QUIC failed to {what}: {error}"), "")
}

/// What an end saw.
#[derive(Default)]
struct End {
    bins: Vec<u32>,
    ten_megabytes: Option<crate::time::Nanos>,
    lost: u64,
    sent: u64,
}

/// Starts one flow; a plan with more of them gets more connections.
pub fn start(
    from: &Namespace,
    to: &Namespace,
    reach: Reach,
    plan: BulkPlan,
    window: Window,
) -> Result<Running<BulkReport>> {
    let (tell, told) = mpsc::channel::<(u16, CertificateDer<'static>)>();
    let (server_plan, target, progress) = (plan.clone(), reach.target, Arc::clone(&reach.progress));
    let server = to.spawn(move || {
        let certified =
            rcgen::generate_simple_self_signed([HOST.to_owned()]).map_err(|error| failed("sign", error))?;
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let mut config = ServerConfig::with_single_cert(vec![certificate.clone()], key)
            .map_err(|error| failed("set up its server", error))?;
        config.transport_config(Arc::new(transport()));
        let socket = answering(target)?;
        let port = socket.local_addr().map_err(|error| failed("bind", error))?.port();
        // The other side waits for it, unless it has failed already.
        let _ = tell.send((port, certificate));
        runtime()?.block_on(async move {
            let endpoint = endpoint(socket, Some(config))?;
            let mut flows = Vec::new();
            while flows.len() < server_plan.flows {
                let left = Duration::from(window.end.since(clock::now()));
                let Ok(Some(incoming)) = tokio::time::timeout(left, endpoint.accept()).await else {
                    break;
                };
                let progress = Arc::clone(&progress);
                let way = server_plan.way;
                flows.push(tokio::spawn(async move {
                    let connection = incoming.await.map_err(|error| failed("answer", error))?;
                    end(connection, way == Way::Down, window, &progress).await
                }));
            }
            joined(flows).await
        })
    })?;
    let client = from.spawn(move || {
        let Ok((port, certificate)) = told.recv() else {
            // The server's own error says more.
            let ended = server
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            return ended.map(|_| BulkReport {
                plan,
                window,
                flows: Vec::new(),
            });
        };
        let socket = unconnected(&reach)?;
        clock::sleep_until(window.start);
        let ends: Result<Vec<End>> = runtime()?.block_on(async {
            let mut roots = RootCertStore::empty();
            roots
                .add(certificate)
                .map_err(|error| failed("trust its server", error))?;
            let mut config = ClientConfig::with_root_certificates(Arc::new(roots))
                .map_err(|error| failed("set up its client", error))?;
            config.transport_config(Arc::new(transport()));
            let endpoint = endpoint(socket, None)?;
            let mut flows = Vec::new();
            for _ in 0..plan.flows {
                let connection = endpoint
                    .connect_with(config.clone(), SocketAddr::new(reach.target, port), HOST)
                    .map_err(|error| failed("connect", error))?
                    .await
                    .map_err(|error| failed("connect", error))?;
                let (way, progress) = (plan.way, Arc::clone(&reach.progress));
                flows.push(tokio::spawn(async move {
                    end(connection, way == Way::Up, window, &progress).await
                }));
            }
            joined(flows).await
        });
        let clients = ends?;
        let servers = server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let flows = clients
            .into_iter()
            .zip(servers)
            .map(|(client, server)| match plan.way {
                Way::Up => report(client, server),
                Way::Down => report(server, client),
            });
        Ok(BulkReport {
            flows: flows.collect(),
            plan,
            window,
        })
    })?;
    Ok(Running(client))
}

fn report(sender: End, receiver: End) -> FlowReport {
    FlowReport {
        bins: receiver.bins,
        ten_megabytes: receiver.ten_megabytes,
        sender: TcpInfo {
            retransmits: sender.lost as u32,
            segments_out: sender.sent as u32,
            ..TcpInfo::default()
        },
        receiver: TcpInfo::default(),
        client_congestion: NAME.to_owned(),
        server_congestion: NAME.to_owned(),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| failed("start its event loop", error))
}

fn endpoint(socket: UdpSocket, server: Option<ServerConfig>) -> Result<Endpoint> {
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime))
        .map_err(|error| failed("use its socket", error))
}

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(ROOM))
        .send_window(u64::from(ROOM));
    // Links that are silent for half a run are part of scenarios.
    config.max_idle_timeout(None);
    config
}

async fn joined(flows: Vec<tokio::task::JoinHandle<Result<End>>>) -> Result<Vec<End>> {
    let mut ends = Vec::new();
    for flow in flows {
        ends.push(flow.await.map_err(|error| failed("finish", error))??);
    }
    Ok(ends)
}

/// Sends or receives on one stream until the window ends.
async fn end(connection: Connection, sends: bool, window: Window, progress: &Progress) -> Result<End> {
    let mut seen = End::default();
    let left = Duration::from(window.end.since(clock::now()));
    let work = async {
        if sends {
            let mut stream = connection
                .open_uni()
                .await
                .map_err(|error| failed("open a stream", error))?;
            let chunk = vec![0x5a; 64 << 10];
            loop {
                stream
                    .write_all(&chunk)
                    .await
                    .map_err(|error| failed("send", error))?;
            }
        }
        let mut stream = connection
            .accept_uni()
            .await
            .map_err(|error| failed("take a stream", error))?;
        let mut total = 0_u64;
        while let Some(chunk) = stream
            .read_chunk(1 << 20, true)
            .await
            .map_err(|error| failed("receive", error))?
        {
            let since = clock::now().since(window.start);
            let index = (since.0 / BIN.0) as usize;
            if seen.bins.len() <= index {
                seen.bins.resize(index + 1, 0);
            }
            seen.bins[index] += chunk.bytes.len() as u32;
            progress
                .received
                .fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
            total += chunk.bytes.len() as u64;
            if total >= 10_000_000 && seen.ten_megabytes.is_none() {
                seen.ten_megabytes = Some(since);
            }
        }
        Ok(())
    };
    // The window's end is how it is meant to end; the other side may be a moment earlier.
    let outcome: Result<Result<()>, _> = tokio::time::timeout(left, work).await;
    let stats = connection.stats();
    (seen.lost, seen.sent) = (stats.path.lost_packets, stats.path.sent_packets);
    let early = clock::now() + crate::time::Nanos::from_millis(200.0) < window.end;
    connection.close(VarInt::from_u32(0), b"");
    match outcome {
        Ok(Err(error)) if early => Err(error),
        _ => Ok(seen),
    }
}
