//! Reads patterns of any syntax, one after the other in the same memory.

use super::ast::Ast;
use super::error::{Kind, PatternError};
use super::plan::Plan;
use super::{PatternOptions, PatternSyntax, Tree};
use super::{ecmascript, exact, limits, wildcard};

/// What reading a pattern takes, kept for the next one: sets of rules have thousands.
#[derive(Debug, Default)]
pub(in crate::rules) struct Reader {
    ecmascript: ecmascript::Parser,
    spare: Ast,
}

impl Reader {
    /// Reads a pattern and finds out how it is searched.
    pub(super) fn read(
        &mut self,
        text: &str,
        syntax: PatternSyntax,
        options: PatternOptions,
    ) -> Result<Tree, PatternError> {
        let mut ast = std::mem::take(&mut self.spare);
        ast.begin(options.ignore_case);
        let root = match syntax {
            PatternSyntax::EcmaScript => {
                let dot_matches_line_breaks = options.dot_matches_line_breaks;
                self.ecmascript
                    .parse(text, dot_matches_line_breaks, &mut ast)
            }
            PatternSyntax::Wildcard => wildcard::parse(text, &mut ast),
            PatternSyntax::ExactMatch => exact::parse(text, options.substring, &mut ast),
        };
        ast.set_root(root?);
        let plan = Plan::new(&ast);
        if plan.states > limits::STATES {
            return Err(PatternError::new(0, Kind::TooLarge));
        }
        Ok(Tree { ast, plan })
    }

    /// Takes the memory of a tree that is needed no more.
    pub(in crate::rules) fn reuse(&mut self, tree: Tree) {
        self.spare = tree.ast;
    }
}
