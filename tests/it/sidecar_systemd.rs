//! The sidecar against a real systemd: units that really run, and are really refused.

use std::time::Duration;

use stopgap::sidecar::{Client, Holder, Name, Reply, Request, Target, TargetResult, Undo};

use super::sidecar_process::{apply, service};
use super::support::sidecar::{Sidecar, ask};
use super::support::systemd::{SLEEPER, Systemd};

/// One in each place for units, since a mask of the runtime folder works in one of them only.
const UNITS: [&str; 2] = ["um.service", "ecp.service"];

fn settings(system: &Systemd) -> String {
    format!(
        "driver = 'systemd'\ndeny = ['precious*']\n\
         [allow]\nservices = ['MSExchangeUM', 'idle', 'innocent', 'sshd', 'gone']\npools = ['*']\n\
         [systemd]\nbus = '{}'\ndrop_in_folder = '{}'\n\
         [service.MSExchangeUM]\nunit = 'um.service'\n[pool.MSExchangeECPAppPool]\nunit = 'ecp.service'\n",
        system.bus(),
        system.run().join("systemd/system").display(),
    )
    .replace("pools = ['*']", "pools = ['MSExchange*AppPool']")
}

fn targets() -> [Target; 2] {
    let pool = Target::Pool(Name::new("MSExchangeECPAppPool").unwrap());
    [service("MSExchangeUM"), pool]
}

#[test]
fn units_are_stopped_barred_and_restored() {
    let dependant = SLEEPER.replace(
        "[Service]",
        "Requires=um.service\nAfter=um.service\n[Service]",
    );
    let precious = SLEEPER.to_owned();
    let Some(system) = Systemd::boot(
        &[("ecp.service", SLEEPER)],
        &[
            ("um.service", SLEEPER),
            ("idle.service", SLEEPER),
            ("dependant.service", &dependant),
            ("precious.service", &precious),
        ],
    ) else {
        return;
    };
    for unit in UNITS.iter().chain(&["precious.service"]) {
        let started = system.systemctl(&["start", unit]);
        assert!(started.status.success(), "{started:?}");
    }
    let own = tempfile::tempdir().unwrap();
    let mut sidecar = Sidecar::start(own.path(), &settings(&system));

    held(&system, &sidecar);
    killed_sidecar_changes_nothing(&system, &mut sidecar, own.path());
    interference_is_undone(&system, &sidecar);
    restored(&system, &sidecar);
    idle_stays_idle(&system, &sidecar);
    denied_alias_is_refused(&system, &sidecar);
}

fn held(system: &Systemd, sidecar: &Sidecar) {
    let outcomes = sidecar.order(&apply("M90", &targets()));
    assert_eq!(outcomes.len(), 2);
    for outcome in outcomes {
        assert!(
            matches!(outcome.result, TargetResult::Held(_)),
            "{outcome:?}"
        );
    }
    assert_barred(system);
    // Whoever needs one of them does not start it either.
    system.systemctl(&["start", "dependant.service"]);
    assert_barred(system);
}

fn assert_barred(system: &Systemd) {
    for unit in UNITS {
        assert!(!system.is_active(unit), "{unit} runs");
        let started = system.systemctl(&["start", unit]);
        assert!(!started.status.success(), "{unit} could be started");
        assert!(!system.is_active(unit), "{unit} was started");
    }
}

fn killed_sidecar_changes_nothing(system: &Systemd, sidecar: &mut Sidecar, own: &std::path::Path) {
    sidecar.kill();
    assert!(system.systemctl(&["daemon-reload"]).status.success());
    assert_barred(system);
    *sidecar = Sidecar::start(own, &settings(system));
    let reports = sidecar.state();
    assert_eq!(reports.len(), 2);
    for report in reports {
        assert!(report.original.running, "{report:?}");
        assert_eq!(report.problem, None, "{report:?}");
    }
    assert_barred(system);
}

fn interference_is_undone(system: &Systemd, sidecar: &Sidecar) {
    let drop_in = system.run().join("systemd/system/um.service.d");
    std::fs::remove_dir_all(drop_in).unwrap();
    assert!(system.systemctl(&["daemon-reload"]).status.success());
    assert!(system.systemctl(&["start", "um.service"]).status.success());
    let problem = sidecar
        .state()
        .into_iter()
        .find_map(|report| report.problem);
    assert_eq!(
        problem.as_deref(),
        Some("it is running and should be stopped, disabled")
    );
    sidecar.order(&apply("M90", &targets()));
    assert_barred(system);
}

fn restored(system: &Systemd, sidecar: &Sidecar) {
    for outcome in sidecar.undo("M90") {
        assert!(
            matches!(outcome.result, TargetResult::Restored(_)),
            "{outcome:?}"
        );
    }
    for unit in UNITS {
        assert!(system.is_active(unit), "{unit}");
        assert!(system.systemctl(&["restart", unit]).status.success());
        assert!(
            !system
                .run()
                .join("systemd/system")
                .join(format!("{unit}.d"))
                .exists()
        );
    }
    assert!(sidecar.state().is_empty());
}

fn idle_stays_idle(system: &Systemd, sidecar: &Sidecar) {
    sidecar.order(&apply("M91", &[service("idle")]));
    assert!(
        !system
            .systemctl(&["start", "idle.service"])
            .status
            .success()
    );
    sidecar.undo("M91");
    assert!(!system.is_active("idle.service"));
    assert!(
        system
            .systemctl(&["start", "idle.service"])
            .status
            .success()
    );
}

fn denied_alias_is_refused(system: &Systemd, sidecar: &Sidecar) {
    let alias = system.run().join("systemd/system/innocent.service");
    std::os::unix::fs::symlink("/run/given-units/precious.service", alias).unwrap();
    assert!(system.systemctl(&["daemon-reload"]).status.success());
    let outcomes = sidecar.order(&apply(
        "M92",
        &[service("innocent"), service("sshd"), service("gone")],
    ));
    for outcome in outcomes {
        let expected = match outcome.target.name().as_str() {
            "innocent" => "precious.service is on the sidecar's deny-list",
            "sshd" => "sshd is on the sidecar's deny-list",
            _ => {
                assert_eq!(outcome.result, TargetResult::Missing);
                continue;
            }
        };
        match outcome.result {
            TargetResult::Refused(reason) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(system.is_active("precious.service"));
}

/// What the packaged unit forbids its process is nothing that the process needs.
#[test]
fn packaged_unit_lets_the_sidecar_work() {
    let unit = include_str!("../../src/packaging/systemd/stopgap-sidecar.service")
        .replace("/usr/bin/stopgap-sidecar", "/run/test/stopgap-sidecar")
        .replace("/etc/stopgap/sidecar.toml", "/run/test/sidecar.toml");
    let Some(system) = Systemd::boot(
        &[("um.service", SLEEPER)],
        &[
            ("stopgap-sidecar.service", &unit),
            ("local-fs.target", "[Unit]\nDefaultDependencies=no\n"),
        ],
    ) else {
        return;
    };
    // A place that the unit can see wherever this checkout is.
    let test = system.run().join("test");
    std::fs::create_dir(&test).unwrap();
    let binary = env!("CARGO_BIN_EXE_stopgap-sidecar");
    std::fs::copy(binary, test.join("stopgap-sidecar")).unwrap();
    let settings = "users = [0]\ndriver = 'systemd'\nallow.services = ['um']\n";
    std::fs::write(test.join("sidecar.toml"), settings).unwrap();
    assert!(system.systemctl(&["start", "um.service"]).status.success());
    let started = system.systemctl(&["start", "stopgap-sidecar.service"]);
    assert!(started.status.success(), "{started:?}");

    let socket = system.run().join("stopgap-sidecar/sidecar.sock");
    let client = Client::new(&socket, Duration::from_secs(60));
    let order = |request: &Request| loop {
        match ask(&client, request) {
            Ok(Reply::Outcomes(outcomes)) => break outcomes[0].result.clone(),
            // The unit counts as started when its program runs, which is before the socket is there.
            Err(error) if error.is_unreachable() => {
                let active = system.is_active("stopgap-sidecar.service");
                assert!(
                    active,
                    "{:?}",
                    system.systemctl(&["status", "stopgap-sidecar.service"])
                );
                std::thread::sleep(Duration::from_millis(20));
            }
            other => panic!("{other:?}"),
        }
    };
    let held = order(&apply("M1", &[service("um")]));
    assert!(matches!(held, TargetResult::Held(_)), "{held:?}");
    assert!(!system.systemctl(&["start", "um.service"]).status.success());
    let restarted = system.systemctl(&["restart", "stopgap-sidecar.service"]);
    assert!(restarted.status.success(), "{restarted:?}");
    let mitigation = Holder::new("M1").unwrap();
    let restored = order(&Request::Undo(Undo { mitigation }));
    assert!(
        matches!(restored, TargetResult::Restored(_)),
        "{restored:?}"
    );
    assert!(system.is_active("um.service"));
}
