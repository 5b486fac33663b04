//! [`Chunks`]: a stream made of chunks, each fetched when the one before is used up.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::error::Result;

/// The items of a chunk, and where the next one begins; `None` at the end.
pub(crate) type Chunk<T, C> = (VecDeque<T>, Option<C>);
type Fetching<T, C> = Pin<Box<dyn Future<Output = Result<Chunk<T, C>>> + Send>>;

/// Fetches chunks.
pub(crate) trait Fetch: Clone + Send + 'static {
    /// What a chunk is made of.
    type Item: Send + 'static;
    /// Where a chunk begins.
    type Cursor: Send + 'static;

    fn fetch(
        self,
        cursor: Self::Cursor,
    ) -> impl Future<Output = Result<Chunk<Self::Item, Self::Cursor>>> + Send + 'static;
}

/// At most one chunk is held, and at most one is on its way. Nothing is fetched before it is asked
/// for; dropping it is sound at any point.
pub(crate) struct Chunks<F: Fetch> {
    pub(crate) fetch: F,
    /// `None` while a chunk is on its way, and at the end.
    pub(crate) next: Option<F::Cursor>,
    ready: VecDeque<F::Item>,
    fetching: Option<Fetching<F::Item, F::Cursor>>,
}

impl<F: Fetch> Chunks<F> {
    pub(crate) fn new(fetch: F, start: F::Cursor) -> Self {
        Self { fetch, next: Some(start), ready: VecDeque::new(), fetching: None }
    }

    /// The next item. After an error there is none.
    pub(crate) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<F::Item>>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            if let Some(cursor) = self.next.take() {
                self.fetching = Some(Box::pin(self.fetch.clone().fetch(cursor)));
            }
            let Some(fetching) = &mut self.fetching else { return Poll::Ready(None) };
            let fetched = ready!(fetching.as_mut().poll(cx));
            self.fetching = None;
            match fetched {
                Ok((items, next)) => (self.ready, self.next) = (items, next),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// Gives a stream over `Chunks` its methods: it is a `Stream`, and has the two that most callers
/// need.
macro_rules! stream_of_chunks {
    ($stream:ident, $item:ty) => {
        impl futures_core::Stream for $stream {
            type Item = $crate::Result<$item>;

            fn poll_next(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Self::Item>> {
                self.chunks.poll_item(cx)
            }
        }

        // Nothing in it is pinned but what is boxed.
        impl Unpin for $stream {}

        impl $stream {
            /// The next item; `None` at the end. After an error there is none.
            pub async fn next(&mut self) -> Option<$crate::Result<$item>> {
                std::future::poll_fn(|cx| self.chunks.poll_item(cx)).await
            }

            /// All items that are left.
            ///
            /// # Errors
            /// The first error met.
            pub async fn to_vec(mut self) -> $crate::Result<Vec<$item>> {
                let mut items = Vec::new();
                while let Some(item) = self.next().await {
                    items.push(item?);
                }
                Ok(items)
            }
        }

        impl std::fmt::Debug for $stream {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($stream))
            }
        }
    };
}
pub(crate) use stream_of_chunks;
