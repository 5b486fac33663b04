//! [`Arguments`]: where the arguments of a request lie, and how far the parser has come.

/// One argument's place, relative to the start of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// The parser's state between calls, and the result of the last complete request.
///
/// It is reused for request after request: a request that fits its vector costs no allocation.
/// Places are relative to the first byte of the request, so that the buffer may move between calls.
#[derive(Debug, Default)]
pub struct Arguments {
    pub(super) places: Vec<Place>,
    /// The text of inline arguments, unescaped; `places` refer to it if `is_inline`.
    pub(super) unescaped: Vec<u8>,
    pub(super) is_inline: bool,
    /// Arguments announced and not parsed yet; `None` between requests.
    pub(super) missing: Option<u32>,
    /// Bytes of an unfinished request that need not be looked at again.
    pub(super) position: usize,
    /// The length of the argument being waited for.
    pub(super) bulk_len: Option<u32>,
}

impl Arguments {
    /// No request yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the last request, finished or not.
    pub fn reset(&mut self) {
        self.places.clear();
        self.unescaped.clear();
        self.is_inline = false;
        self.missing = None;
        self.position = 0;
        self.bulk_len = None;
    }

    /// Whether a request has begun to arrive and its places must be kept for the rest of it.
    pub fn is_unfinished(&self) -> bool {
        self.missing.is_some()
    }

    /// Gives back what the places of a large request took beyond `places`.
    pub fn shrink_to(&mut self, places: usize) {
        self.places.shrink_to(places);
        self.unescaped.shrink_to(places);
    }

    /// The last complete request; `input` begins with its first byte.
    #[inline]
    pub fn command<'a>(&'a self, input: &'a [u8]) -> Command<'a> {
        let bytes = if self.is_inline { &self.unescaped } else { input };
        Command { bytes, places: &self.places }
    }

    /// Where argument `index` of the last complete request lies in the input, if it does.
    #[inline]
    pub fn place(&self, index: usize) -> Option<(usize, usize)> {
        if self.is_inline {
            return None;
        }
        self.places.get(index).map(|place| (place.start as usize, place.len as usize))
    }
}

/// A request: its arguments, borrowed from the input.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    bytes: &'a [u8],
    places: &'a [Place],
}

impl<'a> Command<'a> {
    /// The number of arguments, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none, not even a name.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Argument `index`, if there are so many.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let place = self.places.get(index)?;
        let start = place.start as usize;
        self.bytes.get(start..start + place.len as usize)
    }

    /// Argument `index`.
    ///
    /// # Panics
    /// If there are fewer: for callers whose arity was checked.
    #[inline]
    #[track_caller]
    pub fn at(&self, index: usize) -> &'a [u8] {
        match self.get(index) {
            Some(argument) => argument,
            None => panic!("argument {index} of {}: the arity was not checked", self.len()),
        }
    }

    /// The arguments from `first` on.
    pub fn from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let command = *self;
        (first.min(self.len())..self.len()).map(move |index| command.at(index))
    }

    /// The arguments from `first` on, as a request of their own.
    pub fn tail(&self, first: usize) -> Self {
        Self { bytes: self.bytes, places: self.places.get(first..).unwrap_or_default() }
    }

    /// A copy that outlives the input.
    pub fn to_owned(&self) -> OwnedCommand {
        let mut bytes = Vec::with_capacity(self.places.iter().map(|it| it.len as usize).sum());
        let mut places = Vec::with_capacity(self.len());
        for argument in self.from(0) {
            // Within the limits of a request, which are below 4 GiB.
            places.push(Place { start: bytes.len() as u32, len: argument.len() as u32 });
            bytes.extend_from_slice(argument);
        }
        OwnedCommand { bytes: bytes.into(), places: places.into() }
    }
}

/// A request that was kept.
#[derive(Debug, Clone)]
pub struct OwnedCommand {
    bytes: Box<[u8]>,
    places: Box<[Place]>,
}

impl OwnedCommand {
    /// The request.
    pub fn as_command(&self) -> Command<'_> {
        Command { bytes: &self.bytes, places: &self.places }
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + std::mem::size_of_val::<[Place]>(&self.places)
    }
}
