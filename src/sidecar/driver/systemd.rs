//! Units of systemd over D-Bus.
//!
//! A unit is barred by a drop-in whose assertion never holds: unlike a mask of the runtime folder, which is shadowed
//! without a word by a unit file below `/etc`, it works wherever the unit's file is, and leaves that file and its
//! enablement alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use futures_util::StreamExt;
use zbus::zvariant::OwnedObjectPath;

use super::{Answer, Driver, DriverError, Found};
use crate::sidecar::target::{Name, Startup, Target, TargetState};

/// The file in the unit's drop-in folder.
const DROP_IN: &str = "50-stopgap.conf";

/// The kind of unit that is stopped; another would take more along than was asked for.
pub const UNIT_SUFFIX: &str = ".service";

/// How systemd is reached, and which units stand for which targets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SystemdConfig {
    /// The D-Bus address; the system's bus when nothing is said.
    pub bus: Option<String>,
    /// Where drop-ins are put. Below `/run` they go with a reboot, and come back when the sidecar starts.
    pub drop_in_folder: PathBuf,
    /// Units of services; a service that is not named is the unit of its own name.
    pub services: BTreeMap<Name, Name>,
    /// Units of application pools; a pool that is not named does not exist.
    pub pools: BTreeMap<Name, Name>,
}

impl Default for SystemdConfig {
    fn default() -> Self {
        Self {
            bus: None,
            drop_in_folder: PathBuf::from("/run/systemd/system"),
            services: BTreeMap::new(),
            pools: BTreeMap::new(),
        }
    }
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
trait Manager {
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload(&self) -> zbus::Result<()>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn subscribe(&self) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn version(&self) -> zbus::Result<String>;

    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

/// One condition of a unit: its kind, whether it triggers, whether it is negated, its parameter, how it came out.
type Condition = (String, bool, bool, String, i32);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1",
    gen_blocking = false
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn asserts(&self) -> zbus::Result<Vec<Condition>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn names(&self) -> zbus::Result<Vec<String>>;
}

/// Stops units, and bars them by a drop-in.
pub struct SystemdDriver {
    config: SystemdConfig,
}

impl SystemdDriver {
    /// A driver with these settings. It connects at each step, so that a bus that was restarted is no trouble.
    pub const fn new(config: SystemdConfig) -> Self {
        Self { config }
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>, DriverError> {
        let failed =
            |error| DriverError::new("systemd cannot be reached over D-Bus").because(error);
        let builder = match &self.config.bus {
            Some(address) => zbus::connection::Builder::address(address.as_str()),
            None => zbus::connection::Builder::system(),
        };
        let connection = builder.map_err(failed)?.build().await.map_err(failed)?;
        ManagerProxy::new(&connection).await.map_err(failed)
    }

    /// The unit that stands for a target.
    fn unit(&self, target: &Target) -> Option<String> {
        let unit = match target {
            Target::Pool(name) => self.config.pools.get(name)?,
            Target::Service(name) => self.config.services.get(name).unwrap_or(name),
        };
        let unit = unit.as_str();
        if unit.contains([' ', '$']) {
            return None;
        }
        let bare = unit.strip_suffix(UNIT_SUFFIX).unwrap_or(unit);
        Some(format!("{bare}{UNIT_SUFFIX}"))
    }

    fn existing_unit(&self, target: &Target) -> Result<String, DriverError> {
        self.unit(target)
            .ok_or_else(|| DriverError::new(format!("no unit stands for {target}")))
    }

    async fn read(&self, unit: &str) -> Result<Option<Found>, DriverError> {
        let manager = self.manager().await?;
        let read = async {
            let path = manager.load_unit(unit).await?;
            let proxy = UnitProxy::builder(manager.inner().connection())
                .path(path)?
                .cache_properties(zbus::proxy::CacheProperties::No)
                .build()
                .await?;
            let load = proxy.load_state().await?;
            let active = proxy.active_state().await?;
            let names = proxy.names().await?;
            Ok::<_, zbus::Error>((load, active, names, proxy.asserts().await?))
        };
        let (load, active, names, asserts) = read
            .await
            .map_err(|error| DriverError::new(format!("{unit} cannot be read")).because(error))?;
        let ours = assertion(unit);
        let barred = asserts.iter().any(|(kind, _, negated, path, _)| {
            kind == "AssertPathExists" && !negated && *path == ours
        });
        let startup = match load.as_str() {
            "not-found" => return Ok(None),
            "masked" => Startup::Disabled,
            "loaded" if barred => Startup::Disabled,
            "loaded" => Startup::Allowed,
            other => {
                let problem = format!("systemd cannot load {unit}: its load state is {other}");
                return Err(DriverError::new(problem));
            }
        };
        let running = !matches!(active.as_str(), "inactive" | "failed");
        let state = TargetState { running, startup };
        Ok(Some(Found { names, state }))
    }

    /// Puts the drop-in of a unit in its place, or takes it away.
    fn write_drop_in(&self, unit: &str, barred: bool) -> io::Result<()> {
        let folder = self.config.drop_in_folder.join(format!("{unit}.d"));
        let file = folder.join(DROP_IN);
        if !barred {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Others may have drop-ins of their own in it.
            let _ = fs::remove_dir(&folder);
            return Ok(());
        }
        fs::create_dir_all(&folder)?;
        // systemd reads no file of another suffix.
        let beside = folder.join(format!("{DROP_IN}.new"));
        fs::write(&beside, drop_in(unit))?;
        fs::rename(&beside, &file)
    }

    async fn set(&self, unit: &str, barred: bool) -> Result<(), DriverError> {
        self.write_drop_in(unit, barred).map_err(|error| {
            let folder = self.config.drop_in_folder.display();
            DriverError::new(format!(
                "the drop-in of {unit} in {folder} cannot be changed"
            ))
            .because(error)
        })?;
        let reloaded = self.manager().await?.reload().await;
        reloaded
            .map_err(|error| DriverError::new("systemd did not reload its units").because(error))
    }

    /// Starts or stops a unit and waits for the job to end.
    async fn job(&self, unit: &str, start: bool) -> Result<(), DriverError> {
        let manager = self.manager().await?;
        let verb = if start { "started" } else { "stopped" };
        let run = async {
            // Without it, systemd sends no signals.
            manager.subscribe().await?;
            let mut removed = manager.receive_job_removed().await?;
            let job = match start {
                true => {
                    // Refused starts may have used up what its limit allows; a unit that did not fail is no error.
                    let _ = manager.reset_failed_unit(unit).await;
                    manager.start_unit(unit, "replace").await?
                }
                false => manager.stop_unit(unit, "replace").await?,
            };
            while let Some(signal) = removed.next().await {
                let arguments = signal.args()?;
                if arguments.job == job {
                    return Ok(arguments.result.clone());
                }
            }
            Err(zbus::Error::Failure("the connection ended".to_owned()))
        };
        let result = run
            .await
            .map_err(|error| DriverError::new(format!("{unit} cannot be {verb}")).because(error))?;
        match result.as_str() {
            "done" => Ok(()),
            other => Err(DriverError::new(format!(
                "{unit} was not {verb}: its job ended with \"{other}\""
            ))),
        }
    }
}

/// A path that nobody makes.
fn assertion(unit: &str) -> String {
    format!("/run/stopgap/allow-{unit}")
}

fn drop_in(unit: &str) -> String {
    format!(
        "# Written by stopgap-sidecar, which holds this unit stopped; `stopgap-sidecar` takes it away.\n\
         [Unit]\nAssertPathExists={}\n",
        assertion(unit)
    )
}

impl Driver for SystemdDriver {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn health(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let version = self.manager().await?.version().await;
            let version = version.map(drop);
            version.map_err(|error| DriverError::new("systemd does not answer").because(error))
        })
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<Found>> {
        Box::pin(async move {
            match self.unit(target) {
                Some(unit) => self.read(&unit).await,
                None => Ok(None),
            }
        })
    }

    fn set_startup<'a>(&'a self, target: &'a Target, startup: Startup) -> Answer<'a, ()> {
        Box::pin(async move {
            let unit = self.existing_unit(target)?;
            self.set(&unit, startup == Startup::Disabled).await
        })
    }

    fn start<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(async move { self.job(&self.existing_unit(target)?, true).await })
    }

    fn stop<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(async move { self.job(&self.existing_unit(target)?, false).await })
    }

    fn barred(&self, _: &Target, _: Startup) -> Startup {
        Startup::Disabled
    }

    fn startable(&self, _: &Target) -> Startup {
        Startup::Allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn targets_map_to_units() {
        let driver = SystemdDriver::new(SystemdConfig {
            services: [(name("MSExchangeUM"), name("um.service"))].into(),
            pools: [(name("ECP"), name("ecp"))].into(),
            ..SystemdConfig::default()
        });
        for (target, unit) in [
            (Target::Service(name("MSExchangeUM")), Some("um.service")),
            (Target::Service(name("nginx")), Some("nginx.service")),
            (
                Target::Service(name("nginx.service")),
                Some("nginx.service"),
            ),
            (Target::Service(name("x.socket")), Some("x.socket.service")),
            (Target::Service(name("a b")), None),
            (Target::Pool(name("ECP")), Some("ecp.service")),
            (Target::Pool(name("nginx")), None),
        ] {
            assert_eq!(driver.unit(&target).as_deref(), unit, "{target}");
        }
    }

    #[test]
    fn drop_in_comes_and_goes_and_leaves_others_alone() {
        let folder = tempfile::tempdir().unwrap();
        let driver = SystemdDriver::new(SystemdConfig {
            drop_in_folder: folder.path().to_owned(),
            ..SystemdConfig::default()
        });
        let drop_ins = folder.path().join("a.service.d");
        driver.write_drop_in("a.service", true).unwrap();
        driver.write_drop_in("a.service", true).unwrap();
        let text = fs::read_to_string(drop_ins.join(DROP_IN)).unwrap();
        assert!(
            text.contains("[Unit]\nAssertPathExists=/run/stopgap/allow-a.service\n"),
            "{text}"
        );
        driver.write_drop_in("a.service", false).unwrap();
        driver.write_drop_in("a.service", false).unwrap();
        assert!(!drop_ins.exists());

        fs::create_dir(&drop_ins).unwrap();
        fs::write(drop_ins.join("10-mine.conf"), "").unwrap();
        driver.write_drop_in("a.service", true).unwrap();
        driver.write_drop_in("a.service", false).unwrap();
        assert!(drop_ins.join("10-mine.conf").exists());
    }
}
