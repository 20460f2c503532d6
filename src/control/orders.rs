//! Follows the orders of operators that change what the engine decides with.

use super::approvals::{self, ApprovalOf};
use super::engine::Engine;
use super::error::ControlError;
use super::exceptions::ExceptionText;
use super::order::{Order, ServerSettings};
use super::retire;
use super::stops;
use crate::mitigation::Decision;
use crate::model::{Exception, MitigationId};
use crate::rules::RuleSet;

impl Engine {
    /// Follows an order that needs no task to be followed; what to tell whoever gave it.
    pub(super) fn obey(&mut self, order: &Order) -> Result<Vec<String>, ControlError> {
        match order {
            Order::Decide(decision) => self.decide(decision),
            Order::DeleteException(name) => self.delete_exception(name),
            Order::Except(text) => self.except(text),
            Order::ExceptBySettings(all) => {
                let now = (self.clock)();
                self.exceptions.take_settings(all, now)?;
                Ok(self
                    .exceptions
                    .fault()
                    .map(str::to_owned)
                    .into_iter()
                    .collect())
            }
            Order::Reapply(id) => self.reapply(id).map(|()| Vec::new()),
            Order::KillSwitch(_) | Order::Reload => Ok(Vec::new()),
            Order::Servers(settings) => self.set_servers(settings),
            Order::Sources(settings) => self.set_sources(settings).map(|()| Vec::new()),
        }
    }

    /// Takes other settings of servers and pools; what to tell whoever changed them.
    fn set_servers(&mut self, settings: &ServerSettings) -> Result<Vec<String>, ControlError> {
        let ServerSettings {
            servers,
            server_sites,
            sidecars,
            pools,
        } = settings.clone();
        let notes = self.sidecars.set(&servers, &sidecars)?;
        (self.config.servers, self.config.server_sites) = (servers, server_sites);
        self.config.sidecars = sidecars;
        if self.config.pools != pools {
            self.config.pools = pools;
            self.pools = stops::table(&self.config);
            // What is paused has other paths now, so that the same has to be published anew.
            self.revision = None;
        }
        Ok(notes)
    }

    /// Takes a decision of an operator; what to tell whoever made it.
    fn decide(&mut self, decision: &Decision) -> Result<Vec<String>, ControlError> {
        let mut changed = false;
        for decision in self.decisions_of(decision)? {
            let decided = self.decided.decide(&decision);
            changed |= decided.map_err(|error| ControlError::order(error.to_string()))?;
        }
        tracing::info!(?decision, changed, "operator's decision");
        let mut notes = Vec::new();
        if !changed {
            notes.push("it was so already".to_owned());
        }
        let (Decision::Approve(id)
        | Decision::ApproveContent(id, _)
        | Decision::Block(id)
        | Decision::Keep(id)
        | Decision::Mode(id, _)
        | Decision::Retire(id)
        | Decision::Unblock(id)) = decision;
        if !self.offers(id) {
            notes.push(format!(
                "no source offers {id} now; it counts from the moment that one does"
            ));
        }
        let mut settings = self.config.policy.blocked.iter();
        if matches!(decision, Decision::Unblock(_)) && settings.any(|own| own.covers(id)) {
            notes.push(format!("the settings block {id} still"));
        }
        notes.extend(self.decided.fault().map(str::to_owned));
        Ok(notes)
    }

    /// The decisions that an operator's is kept as: what is approved is what is offered now, what is retired what is
    /// fixed now, and nothing that may come.
    fn decisions_of(&self, decision: &Decision) -> Result<Vec<Decision>, ControlError> {
        let now = (self.clock)();
        let sources = self.sources(now);
        let policy = self.policy(&sources);
        match decision {
            Decision::Approve(id) if self.config.policy.approval_of == ApprovalOf::Content => {
                let contents = approvals::awaiting(id, &sources, &policy, now)?.into_iter();
                let approve = |(id, content)| Decision::ApproveContent(id, content);
                Ok(contents.map(approve).collect())
            }
            Decision::Retire(id) => {
                let fixed = retire::retirable(id, &sources, &policy, now)?;
                Ok(fixed.into_iter().map(Decision::Retire).collect())
            }
            decision => Ok(vec![decision.clone()]),
        }
    }

    /// Takes an exception of an operator; what to tell whoever added it.
    fn except(&mut self, text: &ExceptionText) -> Result<Vec<String>, ControlError> {
        let exception = self.exceptions.add(text, (self.clock)())?;
        let (id, name) = (exception.mitigation(), exception.name());
        let mut notes = vec![format!(
            "the exception {name} ends at {}",
            exception.expires()
        )];
        match self.offers(id) {
            true => notes.extend(self.unknown_rule(&exception)),
            false => notes.push(format!(
                "no source offers {id} now; it counts from the moment that one does"
            )),
        }
        notes.extend(self.exceptions.fault().map(str::to_owned));
        Ok(notes)
    }

    /// What to tell if what is in force has rules of the mitigation, and none of them the exception's name.
    fn unknown_rule(&self, exception: &Exception) -> Option<String> {
        let (id, rule) = (exception.mitigation(), exception.rule()?);
        let snapshot = self.publisher.handle().load();
        let rules = snapshot.sites().iter().flat_map(RuleSet::rules);
        let own = rules.filter(|(_, rule)| {
            let origin = rule.origin.mitigation.as_ref();
            origin.is_some_and(|own| own.same_mitigation(id))
        });
        let mut names: Vec<String> = own.map(|(_, rule)| rule.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let unknown = !names.is_empty() && !names.iter().any(|name| name == rule);
        unknown.then(|| {
            let names = names.join(", ");
            format!("{id} has no rule named {rule:?} now; it has {names}")
        })
    }

    /// Deletes an exception of an operator.
    fn delete_exception(&mut self, name: &str) -> Result<Vec<String>, ControlError> {
        self.exceptions.delete(name, (self.clock)())?;
        Ok(self
            .exceptions
            .fault()
            .map(str::to_owned)
            .into_iter()
            .collect())
    }

    /// Forgets that a mitigation passed its gates, so that the next cycle brings it through them and publishes it.
    fn reapply(&mut self, id: &MitigationId) -> Result<(), ControlError> {
        if !self.offers(id) {
            let reason = format!("no source offers {id}; `stopgap mitigation list` lists all");
            return Err(ControlError::order(reason));
        }
        self.cache.forget(id);
        self.files.forget();
        self.look_at_files();
        Ok(())
    }

    fn offers(&self, id: &MitigationId) -> bool {
        let sources = self.sources((self.clock)());
        let mut offered = sources.iter().flat_map(|source| &source.mitigations);
        offered.any(|mitigation| id.covers(&mitigation.id))
    }
}
