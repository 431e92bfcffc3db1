//! Dividing hosts into batches.

use std::collections::BTreeSet;

use windlass_proto::id::HostName;
use windlass_proto::spec::{Amount, Batches};

/// Hosts in the order of change, divided: those that run nothing (`idle`) come first, because changing them takes nothing
/// away. Without domains the order is by name; with them by domain, then name, and no batch reaches over a domain's end. A
/// ramp that ends early gets a last batch with the rest.
pub fn divide(
    mut hosts: Vec<(HostName, String)>,
    idle: &BTreeSet<HostName>,
    division: &Batches,
) -> Vec<Vec<HostName>> {
    hosts
        .sort_by_cached_key(|(name, domain)| (!idle.contains(name), natural(domain), natural(name.as_str())));
    let total = count(hosts.len());
    let mut ends = match division {
        Batches::All => vec![],
        Batches::Equal(amount) => {
            let size = equal_size(*amount, total);
            (1..=total / size).map(|n| n * size).collect()
        }
        Batches::Ramp(ramp) => ramp.iter().map(|amount| amount.ceil(total).min(total)).collect::<Vec<_>>(),
    };
    ends.push(total);
    let mut batches: Vec<Vec<HostName>> = Vec::new();
    let mut begun = 0;
    let mut hosts = hosts.into_iter().peekable();
    for end in ends {
        let mut batch = Vec::new();
        while begun < end
            && let Some((name, domain)) = hosts.next()
        {
            begun += 1;
            batch.push(name);
            if hosts.peek().is_some_and(|(_, next)| *next != domain) {
                batches.push(std::mem::take(&mut batch));
            }
        }
        batches.push(batch);
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// Hosts in each of equal batches: rounded down, but at least one.
pub fn equal_size(amount: Amount, total: u32) -> u32 {
    amount.floor(total).max(1)
}

/// A number of hosts as the arithmetic of amounts counts them.
pub(crate) fn count(hosts: usize) -> u32 {
    u32::try_from(hosts).unwrap_or(u32::MAX)
}

/// A key that sorts `host-2` before `host-10`.
fn natural(text: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(word);
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(digits);
        // A name is at most 63 characters; a number too large for a u64 sorts last, then by its text.
        parts.push((0, head.to_owned()));
        parts.push((number.parse().unwrap_or(u64::MAX), number.to_owned()));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use windlass_proto::spec::Ratio;

    use super::*;

    fn hosts(list: &str) -> Vec<(HostName, String)> {
        let pair = |text: &str| {
            let (name, domain) = text.split_once('/').unwrap_or((text, ""));
            (HostName::new(name).unwrap(), domain.to_owned())
        };
        list.split_whitespace().map(pair).collect()
    }

    fn shown(batches: &[Vec<HostName>]) -> String {
        let batch = |batch: &Vec<HostName>| batch.iter().map(HostName::as_str).collect::<Vec<_>>().join(" ");
        batches.iter().map(batch).collect::<Vec<_>>().join(" | ")
    }

    fn percent(n: u32) -> Amount {
        Amount::Percent(Ratio(n * 100))
    }

    #[test]
    fn divides_as_asked() {
        let five = "h3 h1 h10 h2 h4";
        let racks = "h1/r1 h2/r2 h3/r3 h4/r1 h5/r2";
        for (list, division, expected) in [
            (five, Batches::All, "h1 h2 h3 h4 h10"),
            (five, Batches::Equal(Amount::Count(2)), "h1 h2 | h3 h4 | h10"),
            (five, Batches::Equal(percent(30)), "h1 | h2 | h3 | h4 | h10"),
            (five, Batches::Equal(Amount::Count(0)), "h1 | h2 | h3 | h4 | h10"),
            (five, Batches::Equal(Amount::Count(9)), "h1 h2 h3 h4 h10"),
            (
                five,
                Batches::Ramp(vec![Amount::Count(1), percent(10), percent(50), percent(100)]),
                "h1 | h2 h3 | h4 h10",
            ),
            (five, Batches::Ramp(vec![Amount::Count(2)]), "h1 h2 | h3 h4 h10"),
            (five, Batches::Ramp(vec![Amount::Count(99)]), "h1 h2 h3 h4 h10"),
            (racks, Batches::All, "h1 h4 | h2 h5 | h3"),
            (racks, Batches::Equal(Amount::Count(3)), "h1 h4 | h2 | h5 | h3"),
            ("", Batches::All, ""),
        ] {
            assert_eq!(shown(&divide(hosts(list), &BTreeSet::new(), &division)), expected, "{division:?}");
        }
    }

    proptest! {
        #[test]
        fn every_host_is_in_one_batch_of_one_domain(
            domains in proptest::collection::vec(0..4_u8, 0..40),
            ramp in proptest::collection::vec(0..100_u32, 0..5),
        ) {
            let hosts: Vec<_> = domains
                .iter()
                .enumerate()
                .map(|(n, domain)| (HostName::new(format!("h{n}")).unwrap(), format!("d{domain}")))
                .collect();
            let of = |host: &HostName| hosts.iter().find(|(name, _)| name == host).map(|(_, d)| d.clone()).unwrap();
            let idle = hosts.iter().step_by(3).map(|(name, _)| name.clone()).collect();
            let batches = divide(hosts.clone(), &idle, &Batches::Ramp(ramp.into_iter().map(percent).collect()));
            let mut all: Vec<_> = batches.concat();
            let first = all.iter().take_while(|host| idle.contains(*host)).count();
            prop_assert_eq!(first, idle.len(), "those that run nothing come first");
            all.sort();
            let mut expected: Vec<_> = hosts.iter().map(|(name, _)| name.clone()).collect();
            expected.sort();
            prop_assert_eq!(all, expected);
            for batch in &batches {
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.iter().all(|host| of(host) == of(&batch[0])));
            }
        }
    }
}
