//! Lists, as an aligned table, as JSON or as CSV.

use std::fmt::Write;

use serde_json::{Map, Value};

/// The form of a list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values, as RFC 4180 has them
    Csv,
    /// JSON
    Json,
    /// Aligned columns
    #[default]
    Table,
}

/// A list with named columns.
#[derive(Clone, Debug)]
pub(super) struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty list; the names of the columns are in lower case.
    pub(super) const fn new(columns: &'static [&'static str]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// The whole list as text that ends with a line feed.
    pub(super) fn render(&self, format: Format) -> String {
        match format {
            Format::Csv => self.csv(),
            Format::Json => self.json(),
            Format::Table => self.aligned(),
        }
    }

    fn aligned(&self) -> String {
        let head: Vec<String> = self
            .columns
            .iter()
            .map(|name| name.to_uppercase())
            .collect();
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| printable(cell)).collect())
            .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = std::iter::once(&head)
                    .chain(&rows)
                    .map(|row| row[column].chars().count());
                cells.max().unwrap_or_default()
            })
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a string cannot fail.
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn json(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let cells = self.columns.iter().zip(row);
            Value::Object(
                cells
                    .map(|(name, cell)| ((*name).to_owned(), Value::from(cell.as_str())))
                    .collect::<Map<_, _>>(),
            )
        });
        format!("{:#}\n", Value::Array(rows.collect()))
    }

    fn csv(&self) -> String {
        let head = self.columns.join(",");
        let rows = self.rows.iter().map(|row| {
            let cells: Vec<String> = row.iter().map(|cell| csv_cell(cell)).collect();
            cells.join(",")
        });
        std::iter::once(head)
            .chain(rows)
            .map(|line| line + "\r\n")
            .collect()
    }
}

fn csv_cell(cell: &str) -> String {
    match cell.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

/// Text from outside without characters that could steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["id", "reason"]);
        table.row(vec!["M1.1".to_owned(), "a \"b\", c".to_owned()]);
        table.row(vec!["PING1".to_owned(), String::new()]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            table().render(Format::Table),
            "ID     REASON\nM1.1   a \"b\", c\nPING1\n"
        );
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(
            table().render(Format::Csv),
            "id,reason\r\nM1.1,\"a \"\"b\"\", c\"\r\nPING1,\r\n"
        );
    }

    #[test]
    fn json_is_a_list_of_objects() {
        let value: Value = serde_json::from_str(&table().render(Format::Json)).unwrap();
        assert_eq!(value[0]["reason"], "a \"b\", c");
        assert_eq!(value[1]["id"], "PING1");
    }

    #[test]
    fn no_cell_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb c");
    }
}
