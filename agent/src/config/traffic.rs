//! `[traffic]`, checked.

use std::path::Path;

use windlass_proto::time::Span;

use super::fragment::TrafficFragment;
use crate::traffic::Driver;
use crate::traffic::exec::{ExecDriver, HostCommand};

/// For a command and the wait for its effect, where nobody says otherwise.
const TIMEOUT: Span = Span::secs(30);

/// The longest that may be said: what goes back must not hang on a load balancer.
const LONGEST: Span = Span::secs(60);

/// A wrong key: its name, what is wrong, and what to write instead.
type Wrong = (&'static str, String, &'static str);

pub(super) fn check(written: TrafficFragment) -> Result<Driver, Wrong> {
    match written.driver.as_deref() {
        None | Some("none") => {
            let TrafficFragment { driver: _, take_out, put_back, is_in, timeout } = written;
            let unused =
                !(take_out.is_empty() && put_back.is_empty() && is_in.is_empty()) || timeout.is_some();
            if unused {
                let problem = "there are commands, but no driver that runs them".to_owned();
                return Err(("traffic.driver", problem, "write driver = \"exec\", or remove the commands"));
            }
            Ok(Driver::None)
        }
        Some("exec") => exec(written).map(Driver::Exec),
        Some(later @ ("haproxy" | "nginx" | "socket")) => {
            let problem = format!("{later} is not supported yet");
            Err(("traffic.driver", problem, "use exec with commands of your own, or none"))
        }
        Some(other) => Err(("traffic.driver", format!("unknown driver {other:?}"), "use none or exec")),
    }
}

fn exec(written: TrafficFragment) -> Result<ExecDriver, Wrong> {
    let timeout = match written.timeout {
        None => TIMEOUT,
        Some(text) => {
            text.parse::<Span>().ok().filter(|span| (Span::secs(1)..=LONGEST).contains(span)).ok_or_else(
                || {
                    (
                        "traffic.timeout",
                        format!("{text:?} is no time from 1s to {LONGEST}"),
                        "write timeout = \"30s\"",
                    )
                },
            )?
        }
    };
    Ok(ExecDriver {
        take_out: command("traffic.take_out", written.take_out)?,
        put_back: command("traffic.put_back", written.put_back)?,
        is_in: command("traffic.is_in", written.is_in)?,
        timeout,
    })
}

fn command(key: &'static str, words: Vec<String>) -> Result<HostCommand, Wrong> {
    let hint = "write the absolute program and its arguments, as in [\"/usr/local/sbin/lb\", \"out\"]";
    let mut words = words.into_iter();
    match words.next() {
        None => Err((key, "the exec driver needs this command".to_owned(), hint)),
        Some(program) if !Path::new(&program).is_absolute() => {
            Err((key, format!("{program:?} is no absolute path"), hint))
        }
        Some(program) => Ok(HostCommand { program: program.into(), args: words.collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Driver, Wrong> {
        check(toml::from_str(text).unwrap())
    }

    const GOOD: &str = "driver = 'exec'\ntake_out = ['/bin/lb', 'out']\nput_back = ['/bin/lb', 'in']\nis_in = ['/bin/lb', 'is-in']\n";

    #[test]
    fn a_driver_has_all_its_commands_or_is_refused_by_key() {
        let Ok(Driver::Exec(driver)) = checked(GOOD) else { panic!("{:?}", checked(GOOD)) };
        assert_eq!((driver.timeout, driver.is_in.args), (TIMEOUT, vec!["is-in".to_owned()]));
        assert_eq!(checked("").unwrap(), Driver::None);
        let cases = [
            (GOOD.replace("driver = 'exec'\n", ""), "traffic.driver"),
            (GOOD.replace("'exec'", "'haproxy'"), "traffic.driver"),
            (GOOD.replace("'exec'", "'smoke-signals'"), "traffic.driver"),
            (GOOD.replace("put_back = ['/bin/lb', 'in']\n", ""), "traffic.put_back"),
            (GOOD.replace("take_out = ['/bin/lb'", "take_out = ['lb'"), "traffic.take_out"),
            (format!("{GOOD}timeout = '2m'"), "traffic.timeout"),
            (format!("{GOOD}timeout = '100ms'"), "traffic.timeout"),
        ];
        for (text, key) in cases {
            assert_eq!(checked(&text).unwrap_err().0, key, "{text}");
        }
    }
}
