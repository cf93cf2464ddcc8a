//! The table of texts in a 2.0 request.

use crate::{
    decode::attributes::text,
    reason::Reason,
    wire::{Malformed, Reader, Slice},
};

/// Symbols of one request: a table of slices many times the size of an empty symbol on the wire.
const SYMBOLS_MAX: usize = 500_000;

/// The symbols, as received.
#[derive(Debug, Default)]
pub(super) struct Symbols<'a>(Vec<&'a [u8]>);

impl<'a> Symbols<'a> {
    /// Reads the table, wherever in the request it stands.
    pub(super) fn read(request: Slice<'a>) -> Result<Self, Malformed> {
        let mut symbols = Vec::new();
        let mut reader = Reader::new(request);
        while let Some(field) = reader.next()? {
            if field.number == 4 {
                let symbol = field.slice()?;
                if symbols.is_empty() && !symbol.bytes.is_empty() {
                    let reason = "the first of symbols is not the empty text; mend the sender";
                    return Err(Malformed { offset: symbol.offset, reason });
                }
                if symbols.len() == SYMBOLS_MAX {
                    let reason = "there are more than 500000 symbols; send smaller batches";
                    return Err(Malformed { offset: symbol.offset, reason });
                }
                symbols.push(symbol.bytes);
            }
        }
        Ok(Self(symbols))
    }

    /// The symbol that `reference` names.
    pub(super) fn get(&self, reference: u64) -> Result<&'a [u8], Reason> {
        let symbol = usize::try_from(reference).ok().and_then(|index| self.0.get(index));
        symbol.copied().ok_or(Reason::SYMBOL_OUT_OF_RANGE)
    }

    /// The same as text; of a table without symbols, 0 is the empty one.
    pub(super) fn text(&self, reference: u64) -> Result<&'a str, Reason> {
        if reference == 0 {
            return Ok("");
        }
        text(Slice { bytes: self.get(reference)?, offset: 0 })
    }
}
