//! What the sidecar's agent refuses, finds out, and in which order it works.

use std::sync::{Arc, Mutex};

use stopgap::sidecar::{
    Action, Agent, AgentConfig, AllowList, Answer, Desired, Driver, DryRun, ENTRY_LIMIT, Found,
    Holder, NamePattern, Plan, Request, Startup, Target, TargetResult, TargetState,
};
use stopgap::store::StateDir;

use super::sidecar::{
    Held, Host, agent, apply, check, holder, originals, results, run, service, target, undo,
};

#[test]
fn what_may_not_be_stopped_is_not() {
    run(async {
        let host = Host::new();
        let agent = host.agent();
        let names = ["W3SVC", "nginx", "Gone"];
        let actions = names.map(|name| Action {
            target: service(name),
            desired: Desired::Disabled,
        });
        let plan = Plan {
            mitigation: holder(1),
            actions: actions.into(),
        };
        for request in [Request::Plan(plan.clone()), Request::Apply(plan)] {
            let results = results(&agent, request).await;
            let reason = |name: &str| match &results[&service(name)] {
                TargetResult::Refused(reason) => reason.clone(),
                other => panic!("{other:?}"),
            };
            assert!(reason("W3SVC").contains("deny-list"));
            assert!(reason("nginx").contains("allow-list"));
            assert_eq!(results[&service("Gone")], TargetResult::Missing);
        }
        check(&host, &agent, &Held::new()).await;
    });
}

/// An alias that is denied protects a target whatever it is asked for as.
#[test]
fn denied_alias_protects() {
    struct Aliased(DryRun);
    impl Driver for Aliased {
        fn name(&self) -> &'static str {
            "aliased"
        }
        fn health(&self) -> Answer<'_, ()> {
            self.0.health()
        }
        fn inspect<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<Found>> {
            Box::pin(async move {
                let found = self.0.inspect(target).await?;
                Ok(found.map(|found| Found {
                    names: vec!["UM.service".into(), "sshd.service".into()],
                    ..found
                }))
            })
        }
        fn set_startup<'a>(&'a self, _: &'a Target, _: Startup) -> Answer<'a, ()> {
            panic!("must not be touched")
        }
        fn start<'a>(&'a self, _: &'a Target) -> Answer<'a, ()> {
            panic!("must not be touched")
        }
        fn stop<'a>(&'a self, _: &'a Target) -> Answer<'a, ()> {
            panic!("must not be touched")
        }
        fn barred(&self, _: &Target, _: Startup) -> Startup {
            Startup::Disabled
        }
        fn startable(&self, _: &Target) -> Startup {
            Startup::Manual
        }
    }
    run(async {
        let slot = StateDir::memory().slot("journal");
        let agent = agent(Box::new(Aliased(DryRun::new())), Box::new(slot));
        let results = results(&agent, apply(1, &[(2, Desired::Disabled)])).await;
        let TargetResult::Refused(reason) = &results[&target(2)] else {
            panic!("{results:?}")
        };
        assert!(reason.contains("sshd.service"), "{reason}");
    });
}

#[test]
fn success_that_changed_nothing_is_found_out() {
    struct Liar(DryRun);
    impl Driver for Liar {
        fn name(&self) -> &'static str {
            "liar"
        }
        fn health(&self) -> Answer<'_, ()> {
            self.0.health()
        }
        fn inspect<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<Found>> {
            self.0.inspect(target)
        }
        fn set_startup<'a>(&'a self, _: &'a Target, _: Startup) -> Answer<'a, ()> {
            Box::pin(async { Ok(()) })
        }
        fn start<'a>(&'a self, _: &'a Target) -> Answer<'a, ()> {
            Box::pin(async { Ok(()) })
        }
        fn stop<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
            self.0.stop(target)
        }
        fn barred(&self, _: &Target, _: Startup) -> Startup {
            Startup::Disabled
        }
        fn startable(&self, _: &Target) -> Startup {
            Startup::Manual
        }
    }
    run(async {
        let slot = StateDir::memory().slot("journal");
        let agent = agent(Box::new(Liar(DryRun::with(originals()))), Box::new(slot));
        let results = results(&agent, apply(1, &[(0, Desired::Disabled)])).await;
        assert_eq!(
            results[&target(0)],
            TargetResult::Failed(
                "the service manager reports success, but it is stopped, started automatically with delay and \
                 should be stopped, disabled"
                    .into()
            )
        );
        let problems = agent.converge().await;
        assert!(problems.iter().any(|(failed, _)| *failed == target(0)));
    });
}

#[test]
fn plan_changes_nothing_and_says_what_would() {
    run(async {
        let host = Host::new();
        let agent = host.agent();
        let Request::Apply(plan) = apply(1, &[(0, Desired::Disabled), (3, Desired::Disabled)])
        else {
            unreachable!()
        };
        let results = results(&agent, Request::Plan(plan)).await;
        let to = TargetState {
            running: false,
            startup: Startup::Disabled,
        };
        let from = originals()[&target(0)];
        assert_eq!(results[&target(0)], TargetResult::Change { from, to });
        assert_eq!(results[&target(3)], TargetResult::Held(to));
        check(&host, &agent, &Held::new()).await;
    });
}

/// A health manager that still runs would start again what is stopped after it.
#[test]
fn health_managers_stop_first_and_start_last() {
    #[derive(Clone)]
    struct Diary(DryRun, Arc<Mutex<Vec<String>>>);
    impl Diary {
        fn note(&self, verb: &str, target: &Target) {
            self.1
                .lock()
                .unwrap()
                .push(format!("{verb} {}", target.name()));
        }
    }
    impl Driver for Diary {
        fn name(&self) -> &'static str {
            "diary"
        }
        fn health(&self) -> Answer<'_, ()> {
            self.0.health()
        }
        fn inspect<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<Found>> {
            self.0.inspect(target)
        }
        fn set_startup<'a>(&'a self, target: &'a Target, startup: Startup) -> Answer<'a, ()> {
            self.0.set_startup(target, startup)
        }
        fn start<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
            self.note("start", target);
            self.0.start(target)
        }
        fn stop<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
            self.note("stop", target);
            self.0.stop(target)
        }
        fn barred(&self, target: &Target, original: Startup) -> Startup {
            self.0.barred(target, original)
        }
        fn startable(&self, target: &Target) -> Startup {
            self.0.startable(target)
        }
    }
    run(async {
        let diary = Diary(DryRun::with(originals()), Arc::default());
        let slot = StateDir::memory().slot("journal");
        let agent = agent(Box::new(diary.clone()), Box::new(slot));
        agent
            .answer(apply(1, &[(0, Desired::Disabled), (2, Desired::Disabled)]))
            .await
            .unwrap();
        agent.answer(undo(1)).await.unwrap();
        assert_eq!(
            *diary.1.lock().unwrap(),
            [
                "stop HM",
                "stop ECPAppPool",
                "stop UM",
                "start ECPAppPool",
                "start UM",
                "start HM"
            ]
        );
    });
}

#[test]
fn journal_takes_so_many_targets_and_no_more() {
    run(async {
        let slot = StateDir::memory().slot("journal");
        let config = AgentConfig {
            allow: AllowList {
                services: vec![NamePattern::new("t*").unwrap()],
                ..AllowList::default()
            },
            ..AgentConfig::default()
        };
        let agent = Agent::new(config, Box::new(DryRun::new()), Box::new(slot)).unwrap();
        for number in 0..=ENTRY_LIMIT {
            let target = service(&format!("t{number}"));
            let order = Request::Apply(Plan {
                mitigation: Holder::new(&format!("M{number}")).unwrap(),
                actions: vec![Action {
                    target: target.clone(),
                    desired: Desired::Disabled,
                }],
            });
            let result = &results(&agent, order).await[&target];
            match number < ENTRY_LIMIT {
                true => assert!(
                    matches!(result, TargetResult::Held(_)),
                    "{number}: {result:?}"
                ),
                false => assert!(matches!(result, TargetResult::Refused(_)), "{result:?}"),
            }
        }
    });
}
