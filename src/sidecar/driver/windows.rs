//! Services of Windows through `sc.exe`, application pools of IIS through `appcmd.exe`.
//!
//! Written from the documentation of both programs and never run on Windows; arguments and parsing are tested
//! everywhere. Words are read where the programs do not translate them, never the labels before them.

use super::process::{Ended, Process, refused};
use super::{Answer, Driver, DriverError, Found};
use crate::sidecar::target::{Name, Startup, Target, TargetState};

/// `ERROR_SERVICE_ALREADY_RUNNING`
const ALREADY_RUNNING: i32 = 1056;

/// `ERROR_SERVICE_DOES_NOT_EXIST`
const NO_SUCH_SERVICE: i32 = 1060;

/// `ERROR_SERVICE_NOT_ACTIVE`
const NOT_ACTIVE: i32 = 1062;

/// Where the two programs are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WindowsConfig {
    /// `sc.exe`
    pub sc: String,
    /// `appcmd.exe`
    pub appcmd: String,
}

impl Default for WindowsConfig {
    fn default() -> Self {
        Self {
            sc: r"C:\Windows\System32\sc.exe".to_owned(),
            appcmd: r"C:\Windows\System32\inetsrv\appcmd.exe".to_owned(),
        }
    }
}

/// Runs `sc.exe` and `appcmd.exe`.
pub struct WindowsDriver {
    config: WindowsConfig,
    process: Box<dyn Process>,
}

impl WindowsDriver {
    /// A driver that runs these programs.
    pub fn new(config: WindowsConfig, process: Box<dyn Process>) -> Self {
        Self { config, process }
    }

    fn sc(&self, arguments: &[&str]) -> Vec<String> {
        command(&self.config.sc, arguments)
    }

    /// `list`, `set`, `start` or `stop` of one pool.
    fn appcmd(&self, verb: &str, name: &Name, arguments: &[&str]) -> Vec<String> {
        let pool = format!("/apppool.name:{name}");
        let mut all = vec![verb, "apppool", &pool];
        all.extend(arguments);
        command(&self.config.appcmd, &all)
    }

    /// Runs a step; the code `done_already` stands for a step that found its work done.
    async fn run(&self, arguments: &[String], done_already: i32) -> Result<(), DriverError> {
        let ended = self.process.run(arguments).await?;
        match ended.code {
            Some(code) if code == 0 || code == done_already => Ok(()),
            _ => Err(refused(arguments, &ended)),
        }
    }

    async fn service(&self, name: &Name) -> Result<Option<TargetState>, DriverError> {
        let query = self.sc(&["query", name.as_str()]);
        let queried = self.process.read(&query).await?;
        if queried.code == Some(NO_SUCH_SERVICE) {
            return Ok(None);
        }
        let running = running(&succeeded(&query, queried)?);
        let configuration = self.sc(&["qc", name.as_str()]);
        let configured = self.process.read(&configuration).await?;
        let startup = startup(&succeeded(&configuration, configured)?);
        let state = running
            .zip(startup)
            .map(|(running, startup)| TargetState { running, startup });
        let unclear = || DriverError::new(format!("what sc.exe says of {name} is not understood"));
        state.map(Some).ok_or_else(unclear)
    }

    async fn pool(&self, name: &Name) -> Result<Option<TargetState>, DriverError> {
        let mut said = Vec::new();
        for attribute in ["state", "autoStart", "startMode"] {
            let list = self.appcmd("list", name, &[&format!("/text:{attribute}")]);
            let listed = self.process.read(&list).await?;
            let word = listed.output.trim().to_ascii_lowercase();
            // A pool that is not there is told by silence, with one code or another.
            if word.is_empty() && attribute == "state" {
                return Ok(None);
            }
            said.push(succeeded(&list, listed)?.trim().to_ascii_lowercase());
        }
        let running = match said[0].as_str() {
            "started" | "starting" | "stopping" => Some(true),
            "stopped" => Some(false),
            _ => None,
        };
        let auto_start = said[1].parse().ok();
        let always_running = match said[2].as_str() {
            "alwaysrunning" => Some(true),
            "ondemand" => Some(false),
            _ => None,
        };
        let state = || {
            Some(TargetState {
                running: running?,
                startup: Startup::Pool {
                    auto_start: auto_start?,
                    always_running: always_running?,
                },
            })
        };
        let unclear =
            || DriverError::new(format!("what appcmd.exe says of {name} is not understood"));
        state().map(Some).ok_or_else(unclear)
    }

    /// The command that sets what may start a target, if the target has such a setting.
    fn configure(&self, target: &Target, startup: Startup) -> Option<Vec<String>> {
        match (target, startup) {
            (
                Target::Pool(name),
                Startup::Pool {
                    auto_start,
                    always_running,
                },
            ) => {
                let mode = match always_running {
                    true => "/startMode:AlwaysRunning",
                    false => "/startMode:OnDemand",
                };
                Some(self.appcmd("set", name, &[&format!("/autoStart:{auto_start}"), mode]))
            }
            (Target::Service(name), startup) => {
                let word = match startup {
                    Startup::Automatic => "auto",
                    Startup::AutomaticDelayed => "delayed-auto",
                    Startup::Disabled => "disabled",
                    Startup::Manual => "demand",
                    Startup::Allowed | Startup::Pool { .. } => return None,
                };
                // sc.exe wants the value as an argument of its own.
                Some(self.sc(&["config", name.as_str(), "start=", word]))
            }
            (Target::Pool(_), _) => None,
        }
    }
}

fn command(program: &str, arguments: &[&str]) -> Vec<String> {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned());
    std::iter::once(program.to_owned())
        .chain(arguments)
        .collect()
}

fn succeeded(arguments: &[String], ended: Ended) -> Result<String, DriverError> {
    match ended.code {
        Some(0) => Ok(ended.output),
        _ => Err(refused(arguments, &ended)),
    }
}

/// What stands behind the colon of each line of `sc.exe`: a number, and words for it.
fn values(output: &str) -> impl Iterator<Item = &str> {
    let value = |line: &str| -> Option<usize> {
        let (label, value) = line.split_once(": ")?;
        let number = value.split_whitespace().next()?;
        number
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit())
            .then_some(label.len() + 2)
    };
    output
        .lines()
        .filter_map(move |line| line.get(value(line)?..))
}

fn running(output: &str) -> Option<bool> {
    values(output).find_map(|value| match value.split_whitespace().nth(1)? {
        "STOPPED" => Some(false),
        "RUNNING" | "START_PENDING" | "STOP_PENDING" | "CONTINUE_PENDING" | "PAUSE_PENDING"
        | "PAUSED" => Some(true),
        _ => None,
    })
}

fn startup(output: &str) -> Option<Startup> {
    values(output).find_map(|value| match value.split_whitespace().nth(1)? {
        "AUTO_START" if value.contains("DELAYED") => Some(Startup::AutomaticDelayed),
        "AUTO_START" => Some(Startup::Automatic),
        "DEMAND_START" => Some(Startup::Manual),
        "DISABLED" => Some(Startup::Disabled),
        _ => None,
    })
}

impl Driver for WindowsDriver {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn notice(&self) -> Option<&'static str> {
        Some(
            "this driver was never run on Windows: its programs' output was only read from records",
        )
    }

    fn health(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            // The service that every other one of Windows hangs on.
            let query = self.sc(&["query", "RpcSs"]);
            let queried = self.process.read(&query).await?;
            succeeded(&query, queried).map(drop)
        })
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<Found>> {
        Box::pin(async move {
            let state = match target {
                Target::Pool(name) => self.pool(name).await?,
                Target::Service(name) => self.service(name).await?,
            };
            Ok(state.map(|state| Found {
                names: vec![target.name().to_string()],
                state,
            }))
        })
    }

    fn set_startup<'a>(&'a self, target: &'a Target, startup: Startup) -> Answer<'a, ()> {
        Box::pin(async move {
            let arguments = self.configure(target, startup);
            let arguments = arguments
                .ok_or_else(|| DriverError::new(format!("{target} has no such startup")))?;
            self.run(&arguments, 0).await
        })
    }

    fn start<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(async move {
            let arguments = match target {
                Target::Pool(name) => self.appcmd("start", name, &[]),
                Target::Service(name) => self.sc(&["start", name.as_str()]),
            };
            self.run(&arguments, ALREADY_RUNNING).await
        })
    }

    fn stop<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(async move {
            let arguments = match target {
                Target::Pool(name) => self.appcmd("stop", name, &[]),
                Target::Service(name) => self.sc(&["stop", name.as_str()]),
            };
            self.run(&arguments, NOT_ACTIVE).await
        })
    }

    fn barred(&self, target: &Target, _: Startup) -> Startup {
        match target {
            Target::Pool(_) => Startup::Pool {
                auto_start: false,
                always_running: false,
            },
            Target::Service(_) => Startup::Disabled,
        }
    }

    fn startable(&self, target: &Target) -> Startup {
        match target {
            // A pool can be started by hand whatever it is set to.
            Target::Pool(_) => self.barred(target, Startup::Allowed),
            Target::Service(_) => Startup::Manual,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use super::*;

    const QUERY: &str = "\r\nSERVICE_NAME: MSExchangeUM \r\n        TYPE               : 10  WIN32_OWN_PROCESS  \r\n        STATE              : 4  RUNNING \r\n                                (STOPPABLE, NOT_PAUSABLE, ACCEPTS_SHUTDOWN)\r\n        WIN32_EXIT_CODE    : 0  (0x0)\r\n        SERVICE_EXIT_CODE  : 0  (0x0)\r\n        CHECKPOINT         : 0x0\r\n        WAIT_HINT          : 0x0\r\n";
    const QC: &str = "[SC] QueryServiceConfig SUCCESS\r\n\r\nSERVICE_NAME: MSExchangeUM\r\n        TYPE               : 10  WIN32_OWN_PROCESS \r\n        START_TYPE         : 2   AUTO_START  (DELAYED)\r\n        ERROR_CONTROL      : 1   NORMAL\r\n        BINARY_PATH_NAME   : \"C:\\Program Files\\x: 3 DISABLED.exe\"\r\n        LOAD_ORDER_GROUP   : \r\n        TAG                : 0\r\n        DISPLAY_NAME       : Unified Messaging\r\n        DEPENDENCIES       : MSExchangeADTopology\r\n        SERVICE_START_NAME : LocalSystem\r\n";
    /// The same from a German Windows: labels are translated, words are not.
    const QC_GERMAN: &str = "[SC] QueryServiceConfig ERFOLG\r\n\r\nSERVICE_NAME: MSExchangeUM\r\n        TYP                : 10  WIN32_OWN_PROCESS \r\n        STARTTYP           : 4   DISABLED\r\n        FEHLERSTEUERUNG    : 1   NORMAL\r\n";

    /// Answers from a table, and remembers what was asked.
    #[derive(Clone, Default)]
    struct Recorded {
        answers: Arc<BTreeMap<String, Ended>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Recorded {
        fn new(answers: &[(&str, i32, &str)]) -> Self {
            let answers = answers.iter().map(|(asked, code, output)| {
                let ended = Ended {
                    code: Some(*code),
                    output: (*output).to_owned(),
                };
                ((*asked).to_owned(), ended)
            });
            Self {
                answers: Arc::new(answers.collect()),
                asked: Arc::default(),
            }
        }
    }

    impl Process for Recorded {
        fn run<'a>(&'a self, arguments: &'a [String]) -> Answer<'a, Ended> {
            self.read(arguments)
        }

        fn read<'a>(&'a self, arguments: &'a [String]) -> Answer<'a, Ended> {
            let asked = arguments.join("|");
            self.asked.lock().unwrap().push(asked.clone());
            let answer = self.answers.get(&asked).cloned();
            Box::pin(async move { answer.ok_or_else(|| DriverError::new(asked)) })
        }
    }

    fn driver(process: Recorded) -> WindowsDriver {
        let config = WindowsConfig {
            sc: "sc".to_owned(),
            appcmd: "appcmd".to_owned(),
        };
        WindowsDriver::new(config, Box::new(process))
    }

    fn service() -> Target {
        Target::Service(Name::new("MSExchangeUM").unwrap())
    }

    fn pool() -> Target {
        Target::Pool(Name::new("MSExchangeECPAppPool").unwrap())
    }

    #[test]
    fn output_of_sc_is_read_in_any_language() {
        assert_eq!(running(QUERY), Some(true));
        assert_eq!(
            running(&QUERY.replace("4  RUNNING", "3  STOP_PENDING")),
            Some(true)
        );
        assert_eq!(
            running(&QUERY.replace("4  RUNNING", "1  STOPPED")),
            Some(false)
        );
        assert_eq!(running(&QUERY.replace("STATE   ", "ZUSTAND ")), Some(true));
        assert_eq!(
            running("[SC] EnumQueryServicesStatus:OpenService FAILED 1060"),
            None
        );
        assert_eq!(startup(QC), Some(Startup::AutomaticDelayed));
        assert_eq!(
            startup(&QC.replace("  (DELAYED)", "")),
            Some(Startup::Automatic)
        );
        assert_eq!(
            startup(&QC.replace("2   AUTO_START  (DELAYED)", "3   DEMAND_START")),
            Some(Startup::Manual)
        );
        assert_eq!(startup(QC_GERMAN), Some(Startup::Disabled));
        assert_eq!(startup(""), None);
    }

    #[tokio::test]
    async fn targets_are_inspected() {
        let process = Recorded::new(&[
            ("sc|query|MSExchangeUM", 0, QUERY),
            ("sc|qc|MSExchangeUM", 0, QC),
            ("sc|query|Gone", 1060, ""),
            ("sc|query|Denied", 5, ""),
            (
                "appcmd|list|apppool|/apppool.name:MSExchangeECPAppPool|/text:state",
                0,
                "Started\r\n",
            ),
            (
                "appcmd|list|apppool|/apppool.name:MSExchangeECPAppPool|/text:autoStart",
                0,
                "true\r\n",
            ),
            (
                "appcmd|list|apppool|/apppool.name:MSExchangeECPAppPool|/text:startMode",
                0,
                "OnDemand\r\n",
            ),
            ("appcmd|list|apppool|/apppool.name:Gone|/text:state", 1, ""),
        ]);
        let driver = driver(process);
        let state = |found: Option<Found>| found.map(|found| found.state);
        assert_eq!(
            state(driver.inspect(&service()).await.unwrap()),
            Some(TargetState {
                running: true,
                startup: Startup::AutomaticDelayed
            })
        );
        assert_eq!(
            state(driver.inspect(&pool()).await.unwrap()),
            Some(TargetState {
                running: true,
                startup: Startup::Pool {
                    auto_start: true,
                    always_running: false
                },
            })
        );
        let gone = Name::new("Gone").unwrap();
        for gone in [Target::Service(gone.clone()), Target::Pool(gone)] {
            assert_eq!(driver.inspect(&gone).await.unwrap(), None);
        }
        let denied = Target::Service(Name::new("Denied").unwrap());
        assert!(driver.inspect(&denied).await.is_err());
    }

    #[tokio::test]
    async fn every_step_has_fixed_arguments() {
        let both = Startup::Pool {
            auto_start: false,
            always_running: false,
        };
        let set = "appcmd|set|apppool|/apppool.name:MSExchangeECPAppPool|/autoStart:false|/startMode:OnDemand";
        let process = Recorded::new(&[
            ("sc|config|MSExchangeUM|start=|disabled", 0, ""),
            ("sc|config|MSExchangeUM|start=|delayed-auto", 0, ""),
            ("sc|stop|MSExchangeUM", 1062, ""),
            ("sc|start|MSExchangeUM", 1056, ""),
            (set, 0, ""),
            (
                "appcmd|stop|apppool|/apppool.name:MSExchangeECPAppPool",
                0,
                "",
            ),
            (
                "appcmd|start|apppool|/apppool.name:MSExchangeECPAppPool",
                5,
                "",
            ),
        ]);
        let driver = driver(process.clone());
        driver
            .set_startup(&service(), Startup::Disabled)
            .await
            .unwrap();
        driver
            .set_startup(&service(), Startup::AutomaticDelayed)
            .await
            .unwrap();
        // Already stopped, already running: nothing is left to do.
        driver.stop(&service()).await.unwrap();
        driver.start(&service()).await.unwrap();
        driver.set_startup(&pool(), both).await.unwrap();
        driver.stop(&pool()).await.unwrap();
        let error = driver.start(&pool()).await.unwrap_err();
        assert!(error.to_string().contains("code 5"), "{error}");
        assert!(driver.set_startup(&service(), both).await.is_err());
        assert!(
            driver
                .set_startup(&pool(), Startup::Disabled)
                .await
                .is_err()
        );
        assert_eq!(process.asked.lock().unwrap().len(), 7);
    }
}
