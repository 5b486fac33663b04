//! [`Gather`]: replies in the order of the keys from visits in any order.

use crate::resp::Reply;

/// Where the reply for one key lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    index: usize,
    start: usize,
    end: usize,
}

/// Writes one string or null per key. Visits in ascending order, the usual case, are written in
/// place; only others are put in order at the end.
pub(crate) struct Gather<'r> {
    reply: &'r mut Reply,
    segments: &'r mut Vec<Segment>,
    start: usize,
    /// The index of the next reply, while all came in order.
    next: usize,
    is_ordered: bool,
}

impl<'r> Gather<'r> {
    pub(crate) fn new(reply: &'r mut Reply, segments: &'r mut Vec<Segment>) -> Self {
        segments.clear();
        let start = reply.mark();
        Self { reply, segments, start, next: 0, is_ordered: true }
    }

    /// Forgets what was visited.
    pub(crate) fn restart(&mut self) {
        self.reply.rewind(self.start);
        self.segments.clear();
        self.next = 0;
        self.is_ordered = true;
    }

    /// Takes the reply for key `index`.
    #[inline]
    pub(crate) fn visit(&mut self, index: usize, write: impl FnOnce(&mut Reply)) {
        if self.is_ordered && index >= self.next {
            while self.next < index {
                self.reply.null();
                self.next += 1;
            }
            self.next = index + 1;
        } else {
            self.is_ordered = false;
        }
        let start = self.reply.mark();
        write(self.reply);
        self.segments.push(Segment { index, start, end: self.reply.mark() });
    }

    /// Completes the replies of `count` keys, and tells of each key whether it was visited.
    pub(crate) fn finish(self, count: usize, mut tell: impl FnMut(usize, bool)) {
        if self.is_ordered {
            let mut visited = self.segments.iter().map(|segment| segment.index).peekable();
            for index in 0..count {
                tell(index, visited.next_if_eq(&index).is_some());
            }
            for _ in self.next..count {
                self.reply.null();
            }
            return;
        }
        let visited = self.reply.since(self.start).to_vec();
        self.reply.rewind(self.start);
        self.segments.sort_unstable_by_key(|segment| segment.index);
        let mut segments = self.segments.iter().peekable();
        for index in 0..count {
            let segment = segments.next_if(|segment| segment.index == index);
            tell(index, segment.is_some());
            match segment {
                Some(segment) => {
                    self.reply.raw(&visited[segment.start - self.start..segment.end - self.start]);
                }
                None => self.reply.null(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Protocol;

    #[test]
    fn any_order_of_visits_gives_the_order_of_the_keys() {
        for order in [vec![0, 2, 3], vec![3, 0, 2], vec![0, 3, 2], vec![2, 0, 3]] {
            let mut reply = Reply::new(Protocol::Resp2, 1 << 10);
            reply.ok();
            let mut segments = Vec::new();
            let mut gather = Gather::new(&mut reply, &mut segments);
            for index in order {
                gather.visit(index, |reply| reply.bulk(index.to_string().as_bytes()));
            }
            let mut told = Vec::new();
            gather.finish(5, |index, is_there| told.push((index, is_there)));
            let expected = [(0, true), (1, false), (2, true), (3, true), (4, false)];
            assert_eq!(told, expected);
            let expected = "+OK\r\n$1\r\n0\r\n$-1\r\n$1\r\n2\r\n$1\r\n3\r\n$-1\r\n";
            assert_eq!(String::from_utf8_lossy(reply.unsent()), expected);
        }
    }
}
