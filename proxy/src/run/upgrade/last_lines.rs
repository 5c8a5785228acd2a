//! What a successor writes to its standard error until it is ready: passed on to ours, and the last lines kept for who asked for it.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Read, Write},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::watch;

/// The last lines, as they come.
#[derive(Debug)]
pub(super) struct LastLines {
    kept: Kept,
    ended: watch::Receiver<bool>,
}

type Kept = Arc<Mutex<VecDeque<String>>>;

impl LastLines {
    /// Reads `from` to its end, on a thread of its own since standard error may be slow, and copies it to `to`.
    pub(super) fn follow(
        from: impl Read + Send + 'static,
        to: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let kept = Kept::default();
        let (end, ended) = watch::channel(false);
        let lines = Arc::clone(&kept);
        thread::Builder::new().name("successor-log".into()).spawn(move || {
            copy(BufReader::new(from), to, &lines);
            end.send_replace(true);
        })?;
        Ok(Self { kept, ended })
    }

    /// All that are kept, once the other end is closed; at the latest after a second.
    pub(super) async fn at_the_end(mut self) -> Vec<String> {
        let _ = tokio::time::timeout(PATIENCE, self.ended.wait_for(|ended| *ended)).await;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

fn copy(mut from: impl io::BufRead, mut to: impl Write, kept: &Mutex<VecDeque<String>>) {
    let mut line = Vec::new();
    while let Ok(1..) = from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
        // When stderr is gone there is nobody left to tell.
        let _ = to.write_all(&line);
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if text.is_empty() {
            continue;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MOST_LINES {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}

const LONGEST_LINE: u64 = 4096;
const MOST_LINES: usize = 12;
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_passed_on_and_the_last_lines_are_kept() {
        let written = (0..20).map(|number| format!("line {number}\n\n")).collect::<Vec<_>>().concat();
        let (mut passed, kept) = (Vec::new(), Mutex::default());
        copy(written.as_bytes(), &mut passed, &kept);
        assert_eq!(passed, written.as_bytes());
        let kept: Vec<_> = kept.into_inner().unwrap().into();
        assert_eq!((kept.len(), kept[0].as_str(), kept[11].as_str()), (MOST_LINES, "line 8", "line 19"));
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let (mut passed, kept) = (Vec::new(), Mutex::default());
        copy(&vec![b'a'; 10_000][..], &mut passed, &kept);
        assert_eq!((passed.len(), kept.into_inner().unwrap().len()), (10_000, 3));
    }
}
