//! What a budget of memory allows to those that write files: a flush, and a merge of others.

/// Row groups larger than this gain nothing.
const ROW_GROUP_SIZE_BYTES_MAX: usize = 128 << 20;
/// Smaller ones make files that are larger and slower to scan.
const ROW_GROUP_SIZE_BYTES_MIN: usize = 4 << 20;
/// A file being merged: a page and a dictionary of each column, and a few batches of rows.
const INPUT_SIZE_BYTES: usize = 4 << 20;
/// More open files at once gain nothing; fewer would write the same rows too often.
const FAN_IN_MAX: usize = 32;
const FAN_IN_MIN: usize = 4;

/// The row group of a merge, its inputs and the row group of a flush beside it take a third of the budget each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMemory {
    /// Arrow bytes at which a row group is closed before it has all its rows.
    pub(crate) row_group_size_bytes: usize,
    /// Runs merged at once.
    pub(crate) fan_in: usize,
}

impl FileMemory {
    /// The budget from which on more changes nothing.
    pub(crate) const BUDGET_BYTES_MAX: usize = 3 * ROW_GROUP_SIZE_BYTES_MAX;

    /// Divides `budget_bytes`; below 48 MiB the least that works takes more than that.
    pub(crate) fn of(budget_bytes: usize) -> Self {
        let third = budget_bytes / 3;
        Self {
            row_group_size_bytes: third.clamp(ROW_GROUP_SIZE_BYTES_MIN, ROW_GROUP_SIZE_BYTES_MAX),
            fan_in: (third / INPUT_SIZE_BYTES).clamp(FAN_IN_MIN, FAN_IN_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_kept_from_48_mib_on_and_bounds_hold_below_and_above() {
        for budget in (48..2000).map(|mib| mib << 20) {
            let FileMemory { row_group_size_bytes, fan_in } = FileMemory::of(budget);
            assert!(2 * row_group_size_bytes + fan_in * INPUT_SIZE_BYTES <= budget, "{budget}");
        }
        assert_eq!(FileMemory::of(0), FileMemory { row_group_size_bytes: 4 << 20, fan_in: 4 });
        let most = FileMemory { row_group_size_bytes: 128 << 20, fan_in: 32 };
        assert_eq!((FileMemory::of(FileMemory::BUDGET_BYTES_MAX), FileMemory::of(usize::MAX)), (most, most));
    }
}
