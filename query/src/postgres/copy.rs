//! `COPY (…) TO STDOUT`: rows as text or CSV.

use bytes::{BufMut, BytesMut};
use datafusion::sql::sqlparser::ast::{
    CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, Ident, ObjectName, Statement as Ast,
};

use super::{
    columns::Column,
    failure::Failure,
    prepared::OutputColumn,
    statement::{Statement, parse},
};

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CopyFormat {
    csv: bool,
    delimiter: u8,
    null: String,
    pub(crate) header: bool,
    quote: u8,
    escape: u8,
    force_quote: ForceQuote,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ForceQuote {
    Columns(Vec<String>),
    All,
}

/// The query whose rows are wanted, and how.
///
/// # Errors
/// What is not written here: files, programs, binary.
pub(crate) fn copy_query(statement: &Statement) -> Result<(Statement, CopyFormat), Failure> {
    let Ast::Copy { source, options, legacy_options, .. } = &statement.ast else {
        return Err(Failure::unsupported("this is no COPY"));
    };
    let format = format(options, legacy_options)?;
    let query = match source {
        CopySource::Query(query) => query.to_string(),
        CopySource::Table { table_name, columns } => select(table_name, columns),
    };
    let mut query = parse(&query)?;
    let [_] = query.as_slice() else { return Err(Failure::unsupported("COPY takes one query")) };
    let mut query = query.remove(0);
    query.text = std::sync::Arc::clone(&statement.text);
    Ok((query, format))
}

fn select(table: &ObjectName, columns: &[Ident]) -> String {
    let columns: Vec<_> = columns.iter().map(Ident::to_string).collect();
    format!("SELECT {} FROM {table}", if columns.is_empty() { "*".to_owned() } else { columns.join(", ") })
}

fn format(options: &[CopyOption], legacy: &[CopyLegacyOption]) -> Result<CopyFormat, Failure> {
    let named = options.iter().find_map(|option| match option {
        CopyOption::Format(name) => Some(name.value.to_lowercase()),
        _ => None,
    });
    let csv = match named.as_deref() {
        Some("csv") => true,
        Some("text") => false,
        Some(other) => {
            return Err(Failure::unsupported(format!("COPY format \"{other}\" is not supported; use text or csv")));
        }
        None => legacy.iter().any(|option| matches!(option, CopyLegacyOption::Csv(_))),
    };
    let mut format = CopyFormat {
        csv,
        delimiter: if csv { b',' } else { b'\t' },
        null: if csv { String::new() } else { "\\N".to_owned() },
        header: false,
        quote: b'"',
        escape: 0,
        force_quote: ForceQuote::Columns(vec![]),
    };
    for option in options {
        match option {
            CopyOption::Format(_) | CopyOption::Encoding(_) | CopyOption::Freeze(_) => {}
            CopyOption::Delimiter(c) => format.delimiter = byte(*c)?,
            CopyOption::Null(text) => format.null.clone_from(text),
            CopyOption::Header(header) => format.header = *header,
            CopyOption::Quote(c) => format.quote = byte(*c)?,
            CopyOption::Escape(c) => format.escape = byte(*c)?,
            CopyOption::ForceQuote(columns) => format.force_quote = force_quote(columns),
            CopyOption::ForceNotNull(_) | CopyOption::ForceNull(_) => {
                return Err(Failure::new("42601", "FORCE_NOT_NULL and FORCE_NULL are for COPY FROM"));
            }
        }
    }
    for option in legacy {
        match option {
            CopyLegacyOption::Delimiter(c) => format.delimiter = byte(*c)?,
            CopyLegacyOption::Null(text) => format.null.clone_from(text),
            CopyLegacyOption::Header => format.header = true,
            CopyLegacyOption::Csv(options) => csv_options(options, &mut format)?,
            CopyLegacyOption::Binary => return Err(Failure::unsupported("COPY format \"binary\" is not supported")),
            other => return Err(Failure::unsupported(format!("COPY option {other} is not supported"))),
        }
    }
    if format.escape == 0 {
        format.escape = format.quote;
    }
    Ok(format)
}

fn csv_options(options: &[CopyLegacyCsvOption], format: &mut CopyFormat) -> Result<(), Failure> {
    for option in options {
        match option {
            CopyLegacyCsvOption::Header => format.header = true,
            CopyLegacyCsvOption::Quote(c) => format.quote = byte(*c)?,
            CopyLegacyCsvOption::Escape(c) => format.escape = byte(*c)?,
            CopyLegacyCsvOption::ForceQuote(columns) => format.force_quote = force_quote(columns),
            CopyLegacyCsvOption::ForceNotNull(_) => {
                return Err(Failure::new("42601", "FORCE NOT NULL is for COPY FROM"));
            }
        }
    }
    Ok(())
}

fn byte(c: char) -> Result<u8, Failure> {
    let byte = u8::try_from(c).ok().filter(u8::is_ascii);
    byte.ok_or_else(|| Failure::new("22023", format!("{c:?} is no single-byte character")))
}

fn force_quote(columns: &[Ident]) -> ForceQuote {
    if columns.iter().any(|column| column.value == "*") {
        return ForceQuote::All;
    }
    ForceQuote::Columns(columns.iter().map(|column| column.value.clone()).collect())
}

impl CopyFormat {
    /// Writes the line of names as a `CopyData` message.
    pub(crate) fn write_header(&self, columns: &[OutputColumn], out: &mut BytesMut) {
        message(out, |out| {
            for (index, column) in columns.iter().enumerate() {
                self.separate(index, out);
                self.write_cell(column.name.as_bytes(), false, out);
            }
            out.put_u8(b'\n');
        });
    }

    /// Writes one row as a `CopyData` message.
    pub(crate) fn write_row(&self, names: &[OutputColumn], columns: &[Column], row: usize, out: &mut BytesMut) {
        let mut cell = BytesMut::new();
        message(out, |out| {
            for (index, column) in columns.iter().enumerate() {
                self.separate(index, out);
                if column.is_null(row) {
                    out.put_slice(self.null.as_bytes());
                    continue;
                }
                cell.clear();
                column.write_text(row, &mut cell);
                let force = match &self.force_quote {
                    ForceQuote::All => true,
                    ForceQuote::Columns(forced) => names.get(index).is_some_and(|name| forced.contains(&name.name)),
                };
                self.write_cell(&cell, force, out);
            }
            out.put_u8(b'\n');
        });
    }

    fn separate(&self, index: usize, out: &mut BytesMut) {
        if index > 0 {
            out.put_u8(self.delimiter);
        }
    }

    fn write_cell(&self, cell: &[u8], force: bool, out: &mut BytesMut) {
        if !self.csv {
            return self.write_text(cell, out);
        }
        let special = |byte: &u8| matches!(*byte, b'\n' | b'\r') || *byte == self.delimiter || *byte == self.quote;
        if !force && cell != self.null.as_bytes() && cell != b"\\." && !cell.iter().any(special) {
            return out.put_slice(cell);
        }
        out.put_u8(self.quote);
        for byte in cell {
            if *byte == self.quote || *byte == self.escape {
                out.put_u8(self.escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(self.quote);
    }

    fn write_text(&self, cell: &[u8], out: &mut BytesMut) {
        for byte in cell {
            let letter = match *byte {
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x08 => b'b',
                0x0b => b'v',
                0x0c => b'f',
                delimiter if delimiter == self.delimiter => delimiter,
                plain => {
                    out.put_u8(plain);
                    continue;
                }
            };
            out.put_slice(&[b'\\', letter]);
        }
    }
}

/// A `CopyData` message of what `write` writes.
fn message(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(b'd');
    let start = out.len();
    out.put_i32(0);
    write(out);
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
