//! Operations of an input: records of an operation, a length of 16 bits and that number of bytes. A truncated record is
//! shorter.

/// Reads an input from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Everything that is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Up to this number of bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A byte; 0 behind the end.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number of 16 bits.
    pub fn short(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    /// A number of 32 bits.
    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    /// The next record: its operation and its bytes.
    pub fn record(&mut self) -> Option<(u8, &'a [u8])> {
        if self.0.is_empty() {
            return None;
        }
        let operation = self.byte();
        let length = usize::from(self.short());
        Some((operation, self.take(length)))
    }
}

/// Adds a record to an input.
pub fn add(out: &mut Vec<u8>, operation: u8, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.push(operation);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

/// An input of one operation, record by record.
pub fn records<B: AsRef<[u8]>>(operation: u8, pieces: impl IntoIterator<Item = B>) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        add(&mut out, operation, piece.as_ref());
    }
    out
}
