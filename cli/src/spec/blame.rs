//! Which environment a problem is of: one that says it itself, or one with which the rest of the file does not go together.

use super::problem::Problem;
use super::tree::{Member, Node, Place, Tree};
use super::unsupported::strip_environment;

/// What was found in the file as each environment makes it, and in the file by itself: each problem once, with the name of
/// the environment where it is not the file's own.
pub fn blame(judged: &[(Option<&Member>, Vec<Problem>)]) -> Vec<Problem> {
    let everywhere =
        |problem: &Problem| judged.iter().all(|(_, found)| found.iter().any(|other| is_same(other, problem)));
    let mut told: Vec<Problem> = Vec::new();
    for (environment, found) in judged {
        for problem in found {
            let mut problem = problem.clone();
            match environment {
                Some(member) if says(&member.value, problem.at) => {
                    let field = strip_environment(&problem.path);
                    problem.path = format!("environments.{}.{field}", member.key);
                }
                Some(member) if !everywhere(&problem) => {
                    problem.message.push_str(&format!(" (in environment {})", member.key));
                }
                _ => {}
            }
            // What an environment says wrongly is seen in its own place and in what it makes of the base.
            if !told.iter().any(|known| is_same(known, &problem)) {
                told.push(problem);
            }
        }
    }
    told
}

fn is_same(a: &Problem, b: &Problem) -> bool {
    a.at == b.at && a.message == b.message && strip_environment(&a.path) == strip_environment(&b.path)
}

/// Whether something of the tree is written there.
fn says(tree: &Tree, at: Place) -> bool {
    let below = match &tree.node {
        Node::Map(members) => members.iter().any(|member| member.at == at || says(&member.value, at)),
        Node::List(items) => items.iter().any(|item| says(item, at)),
        _ => false,
    };
    tree.at == at || below
}
