//! `stopgap-sidecar run`, `check` and `drivers`

use std::future::pending;
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::command::SidecarCommand;
use super::exit::{Ended, Exit, Failure, OrExit};
use super::print;
use crate::config::SidecarConfig;
use crate::net::MutualServer;
use crate::sidecar::{
    Agent, AgentAddress, AgentListener, AgentSocket, DRIVERS, Reply, Request, keep, serve,
};
use crate::store::StateDir;
use crate::telemetry;

/// The name of the journal in the state folder.
const JOURNAL: &str = "journal";

pub(super) fn sidecar(command: &SidecarCommand) -> Ended {
    match command {
        SidecarCommand::Run { config } => run(config),
        SidecarCommand::Check { config } => check(config),
        SidecarCommand::Drivers => drivers(),
    }
}

fn drivers() -> Ended {
    let lines = DRIVERS
        .iter()
        .map(|(name, what)| format!("{name:<9} {what}\n"));
    print(&lines.collect::<String>())
}

/// Reads the settings and asks the driver; changes nothing, and may run beside the sidecar itself.
fn check(path: &Path) -> Ended {
    let config = SidecarConfig::load(path).or_exit(Exit::Invalid)?;
    if let Some(remote) = config.remote {
        MutualServer::load(remote.files, &remote.trust).or_exit(Exit::Invalid)?;
    }
    let journal = StateDir::memory().slot(JOURNAL);
    let agent = Agent::new(config.agent, config.driver.build(), Box::new(journal))
        .or_exit(Exit::Unreachable)?;
    let reply = runtime()?.block_on(agent.answer(Request::Health));
    match reply.or_exit(Exit::Unreachable)? {
        Reply::Health(health) => match health.problem {
            None => print(&format!(
                "the settings can be used, and driver {} works\n",
                health.driver
            )),
            Some(problem) => Err(Failure::new(Exit::Unreachable, problem)),
        },
        Reply::Outcomes(_) | Reply::State(_) => Ok(Exit::Done),
    }
}

fn run(path: &Path) -> Ended {
    telemetry::init();
    let config = SidecarConfig::load(path).or_exit(Exit::Invalid)?;
    let state = StateDir::open(&config.state_dir).or_exit(Exit::Unreachable)?;
    let driver = config.driver.build();
    let name = driver.name();
    let agent = Agent::new(config.agent, driver, Box::new(state.slot(JOURNAL)))
        .or_exit(Exit::Unreachable)?;
    let tls = match &config.remote {
        Some(remote) => {
            let server = MutualServer::load(remote.files.clone(), &remote.trust);
            Some((remote.address, server.or_exit(Exit::Invalid)?))
        }
        None => None,
    };
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let mut listeners: Vec<AgentListener> = Vec::new();
        let mut greeting = String::new();
        if let Some((path, users)) = config.socket {
            listeners.push(
                AgentSocket::bind(&path, users)
                    .or_exit(Exit::Unreachable)?
                    .into(),
            );
            greeting += &format!("listening on {} with driver {name}\n", path.display());
        }
        if let Some((address, tls)) = tls {
            let bound = AgentAddress::bind(address, tls).or_exit(Exit::Unreachable)?;
            let address = bound.address().or_exit(Exit::Unreachable)?;
            greeting += &format!("listening on {address} within TLS with driver {name}\n");
            listeners.push(bound.into());
        }
        let mut terminate = signal(SignalKind::terminate()).or_exit(Exit::Unreachable)?;
        let mut interrupt = signal(SignalKind::interrupt()).or_exit(Exit::Unreachable)?;
        print(&format!("{greeting}ready\n"))?;
        let agent = Arc::new(agent);
        let serving = listeners
            .into_iter()
            .map(|listener| tokio::spawn(serve(listener, Arc::clone(&agent), pending())));
        let serving: Vec<_> = serving.collect();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = keep(&agent) => {}
        }
        // Dropping a listener's task removes its socket.
        serving.iter().for_each(tokio::task::JoinHandle::abort);
        for task in serving {
            // Aborted, as was asked for.
            let _ = task.await;
        }
        // An order that is being carried out goes on to its end; what is held stays held.
        agent.rest().await;
        Ok(Exit::Done)
    });
    runtime.shutdown_background();
    ended
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::Unreachable)
}
