//! What packets feel: the first one of a new pod, connections, throughput.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::Plan;
use crate::agent::Felix;
use crate::cluster::{self, Cluster};
use crate::machine::{Pod, plug};
use crate::watch::Kernel;

const PORT: u16 = 7_000;
const CONNECTIONS: usize = 300;
const STREAM: Duration = Duration::from_millis(1_500);

/// Time from a new pod's object to the first answer that another pod gets from it. No policy selects the new pod; the other
/// one asks, so that its own policies let the answer pass.
pub(crate) async fn first_packet(cluster: &Cluster, from: &Pod) -> Duration {
    let new = plug("default", cluster::FREE_POD, cluster::FREE_ADDRESS).await;
    let socket = |pod: &Pod, port| {
        let address = SocketAddr::new(pod.address, port);
        let socket = pod.netns.run(|| UdpSocket::bind(address).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let (sender, receiver) = (socket(&new, PORT), socket(from, 0));
    let target = receiver.local_addr().unwrap();
    let started = Instant::now();
    cluster.free_pod().await;
    let mut buffer = [0; 16];
    let limit = started + Duration::from_secs(30);
    loop {
        let _ = receiver.send_to(b"ask", SocketAddr::new(new.address, PORT));
        if sender.recv_from(&mut buffer).is_ok() {
            let _ = sender.send_to(b"answer", target);
        }
        if receiver.recv_from(&mut buffer).is_ok() {
            return started.elapsed();
        }
        assert!(Instant::now() < limit, "no packet passes to the new pod");
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

pub(crate) async fn measure(plan: &Plan) {
    let cluster = Cluster::start().await;
    let mut pods = Vec::new();
    for index in 0..2 {
        pods.push(
            plug(
                &cluster::namespace(index),
                &cluster::pod_name(index),
                &cluster::address(index),
            )
            .await,
        );
    }
    cluster.pods(2).await;
    let felix = Felix::start(&cluster, plan.backend);
    felix.wait_in_sync().await;
    let mut kernel = Kernel::new(plan.backend);
    let (client, server) = (&pods[0], &pods[1]);
    serve(server);
    let mut present = 0;
    for count in &plan.selecting {
        cluster.selecting(present..*count).await;
        present = present.max(*count);
        kernel.settle(Duration::from_millis(1_500)).await;
        let target = SocketAddr::new(server.address, PORT);
        let (latency, rate) = client
            .netns
            .run(|| (connections(target), throughput(target)))
            .unwrap();
        println!("| {count} | {} | {rate:.1} Gbit/s |", micros(latency));
    }
}

fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}

fn serve(pod: &Pod) {
    let address: IpAddr = pod.address;
    let listener = pod
        .netns
        .run(|| TcpListener::bind(SocketAddr::new(address, PORT)).unwrap())
        .unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
            });
        }
    });
}

fn connections(target: SocketAddr) -> Duration {
    let mut times: Vec<Duration> = (0..CONNECTIONS)
        .map(|_| {
            let started = Instant::now();
            TcpStream::connect_timeout(&target, Duration::from_secs(5)).expect("the policy lets it pass");
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn throughput(target: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap();
    let buffer = vec![0; 256 << 10];
    let (started, mut sent) = (Instant::now(), 0_u64);
    while started.elapsed() < STREAM {
        stream.write_all(&buffer).unwrap();
        sent += buffer.len() as u64;
    }
    sent as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e9
}
