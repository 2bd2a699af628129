//! Text tables: the plain columns of `get`, and boxes for the rest.

/// Plain columns: each as wide as its widest cell and three spaces, at least five, also the last one. An empty line
/// ends the table, as calicoctl's does.
pub(crate) fn plain(headings: &[&str], rows: &[Vec<String>]) -> String {
    const WIDTH_MIN: usize = 5;
    const PADDING: usize = 3;
    let heading_row: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            let widest = std::iter::once(&heading_row)
                .chain(rows)
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max();
            (widest.unwrap_or_default() + PADDING).max(WIDTH_MIN)
        })
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&heading_row).chain(rows) {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// A box with rules above and below the headings and at the end. Columns named in `right` are aligned to the right.
pub(crate) fn boxed(headings: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let heading_row: Vec<String> = headings.iter().map(|heading| heading.to_uppercase()).collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            std::iter::once(&heading_row)
                .chain(rows)
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let rule: String = widths
        .iter()
        .map(|width| format!("+{}", "-".repeat(width + 2)))
        .collect::<String>()
        + "+\n";
    let mut text = rule.clone();
    for (index, row) in std::iter::once(&heading_row).chain(rows).enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell = if right.contains(&column) && index > 0 {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            };
            text.push_str(&format!("| {cell} "));
        }
        text.push_str("|\n");
        if index == 0 {
            text.push_str(&rule);
        }
    }
    text.push_str(&rule);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_columns_are_padded_to_the_end() {
        let text = plain(
            &["NAME", "CIDR"],
            &[vec!["a-long-name".to_owned(), "10.0.0.0/8".to_owned()]],
        );
        assert_eq!(
            text,
            "NAME          CIDR         \na-long-name   10.0.0.0/8   \n\n"
        );
    }

    #[test]
    fn a_box_has_three_rules() {
        let text = boxed(
            &["Grouping", "Free"],
            &[vec!["IP Pool".to_owned(), "12".to_owned()]],
            &[1],
        );
        assert_eq!(
            text,
            "+----------+------+\n| GROUPING | FREE |\n+----------+------+\n| IP Pool  |   12 |\n+----------+------+\n"
        );
    }
}
