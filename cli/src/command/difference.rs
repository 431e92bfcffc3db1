//! What a plan's target changes over the release before it, as lines.

use windlass_proto::rpc::{FileCount, Plan, PlanChange, PlanDifference};

use crate::output::text;

/// The part of the plan between its head and its batches; it ends with an empty line.
pub(super) fn render(plan: &Plan) -> String {
    // Of a rollback that has to name its target nothing is known yet.
    if plan.to.is_none() {
        return "\n".to_owned();
    }
    let lines = match (&plan.from, &plan.difference) {
        (None, _) => vec!["  first release: there is nothing to compare it with".to_owned()],
        (Some(_), None) => Vec::new(),
        (Some(_), Some(difference)) if !difference.unknown.is_empty() => {
            vec![format!("  what changes is not known: {}", difference.unknown)]
        }
        (Some(_), Some(difference)) => lines(difference),
    };
    lines.into_iter().fold(String::new(), |page, line| page + &line + "\n") + "\n"
}

fn lines(difference: &PlanDifference) -> Vec<String> {
    let is_file = |change: &&PlanChange| change.path.starts_with("files/");
    let mut lines: Vec<String> = difference
        .changes
        .iter()
        .filter(|change| !is_file(change))
        .map(|change| line("  ", change))
        .collect();
    let counts: Vec<String> =
        [("added", &difference.added), ("removed", &difference.removed), ("changed", &difference.changed)]
            .into_iter()
            .filter_map(|(what, count)| counted(what, count.as_ref()?))
            .collect();
    if !counts.is_empty() {
        lines.push(format!("  ~ files   {}", counts.join(", ")));
    }
    lines.extend(difference.changes.iter().filter(is_file).map(|change| line("    ", change)));
    if difference.left_out > 0 {
        lines.push(format!("    and {} more", difference.left_out));
    }
    if lines.is_empty() {
        lines.push("  nothing but version and counter changes".to_owned());
    }
    lines
}

fn line(indent: &str, change: &PlanChange) -> String {
    let PlanChange { path, from, to } = change;
    match (from.as_str(), to.as_str()) {
        ("", to) => format!("{indent}+ {path}: {to}"),
        (from, "") => format!("{indent}- {path}: {from}"),
        (from, to) => format!("{indent}~ {path}: {from} -> {to}"),
    }
}

fn counted(what: &str, count: &FileCount) -> Option<String> {
    let files = usize::try_from(count.files).unwrap_or(usize::MAX);
    (files > 0).then(|| format!("{} {what} ({})", text::count(files, "file"), text::bytes(count.bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_proto::rpc::ReleaseRef;

    fn change(path: &str, from: &str, to: &str) -> PlanChange {
        PlanChange { path: path.into(), from: from.into(), to: to.into() }
    }

    fn rendered(from: Option<ReleaseRef>, difference: Option<PlanDifference>) -> String {
        render(&Plan { from, to: Some(ReleaseRef::default()), difference, ..Default::default() })
    }

    #[test]
    fn each_sort_of_difference_is_told() {
        let before = || Some(ReleaseRef::default());
        let all = PlanDifference {
            changes: vec![
                change("release.runtime.env.LOG_LEVEL", "info", "debug"),
                change("release.runtime.user", "", "web"),
                change("release.ports.admin", "9", ""),
                change("files/bin/shop", "10 bytes, b3:01010101", "11 bytes, b3:02020202"),
            ],
            left_out: 3,
            added: Some(FileCount { files: 1, bytes: 2048 }),
            removed: Some(FileCount { files: 0, bytes: 0 }),
            changed: Some(FileCount { files: 3, bytes: 33 }),
            ..Default::default()
        };
        let unknown = PlanDifference { unknown: "it is damaged".into(), ..Default::default() };
        let cases = [
            (None, None, "  first release: there is nothing to compare it with\n\n"),
            (before(), None, "\n"),
            (before(), Some(unknown), "  what changes is not known: it is damaged\n\n"),
            (before(), Some(PlanDifference::default()), "  nothing but version and counter changes\n\n"),
            (
                before(),
                Some(all),
                "  ~ release.runtime.env.LOG_LEVEL: info -> debug\n  + release.runtime.user: web\n  \
                 - release.ports.admin: 9\n  ~ files   1 file added (2.0 KiB), 3 files changed (33 B)\n    \
                 ~ files/bin/shop: 10 bytes, b3:01010101 -> 11 bytes, b3:02020202\n    and 3 more\n\n",
            ),
        ];
        for (from, difference, expected) in cases {
            assert_eq!(rendered(from, difference), expected);
        }
    }
}
