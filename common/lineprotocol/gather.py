"""Kernels behind the columns of a commit: entries of parsed rows → checked, sorted, merged, one array a field. · pure

They run plain and compiled (``compiled.py``). ``services/ingest`` calls them and says what each is for; the
words are those of ``parse.Parsed``. A *piece* is what becomes one block: rows of one group, dense enough to be columns.
"""

from __future__ import annotations

from typing import Any

from common.lineprotocol.words import i64, u64

# A piece is cut when it would have more cells (rows × columns) than both of these.
MAX_SPARSE_CELLS = 1 << 16
MAX_CELLS_PER_ENTRY = 8


def split_rows(
    body: Any, series: Any, times: Any, keep: Any, body_bucket: Any, bucket_shard_ns: Any, series_measurement: Any,
    latest: Any, runs: Any, row_run: Any,
) -> int:  # fmt: skip
    """Give each row the number of a run: rows of one bucket, measurement and shard, with none of another shard between.

    Args:
        body_bucket: int32 a body, -1 = not wanted.
        latest: int32 (buckets, measurements): the run that was met last, all -1.
        runs: int64 (rows, 3): gets bucket, measurement and shard number (time // length) of each run.
        row_run: int32 a row: gets the run, -1 = not wanted.

    Returns:
        number of runs; one bucket, measurement and shard may have several.
    """
    count = 0
    for row in range(len(times)):
        bucket = body_bucket[body[row]]
        if bucket < 0 or not keep[row]:
            row_run[row] = -1
            continue
        measurement = series_measurement[series[row]]
        shard = times[row] // bucket_shard_ns[bucket]
        run = latest[bucket, measurement]
        if run < 0 or runs[run, 2] != shard:
            run = count
            count += 1
            runs[run, 0] = bucket
            runs[run, 1] = measurement
            runs[run, 2] = shard
            latest[bucket, measurement] = run
        row_run[row] = run
    return count


def order_by(group: Any, offsets: Any, order: Any) -> None:
    """Counting sort: row numbers by group, in row order within a group.

    Args:
        group: int32 a row, -1 = left out.
        offsets: int64, groups + 1, zeros: gets where each group begins.
        order: int64: gets the rows.
    """
    groups = len(offsets) - 1
    for row in range(len(group)):
        if group[row] >= 0:
            offsets[group[row] + 1] += 1
    for g in range(groups):
        offsets[g + 1] += offsets[g]
    for row in range(len(group)):
        g = group[row]
        if g >= 0:
            order[offsets[g]] = row
            offsets[g] += 1
    for g in range(groups, 0, -1):
        offsets[g] = offsets[g - 1]
    offsets[0] = 0


def check_entries(
    entry_offsets: Any, entry_column: Any, entry_type: Any, rows: Any, offsets: Any, ignored: Any,
    known_offsets: Any, known_column: Any, known_type: Any, column_type: Any, mark: Any, conflict: Any, fixed: Any,
) -> int:  # fmt: skip
    """Compare the types of the entries of grouped rows with the known ones; the first row fixes what is not known.

    Args:
        ignored: bool a column.
        known_offsets, known_column, known_type: the known types, by group.
        column_type: uint8 a column, mark: int64 a column, zeros; working memory.
        conflict: int64 (rows, 2): gets the first losing entry of a row, -1 = none, and the type that wins.
        fixed: int64 (entries, 3): gets group, column and type of what was fixed.

    Returns:
        number of entries in *fixed*.
    """
    count = 0
    # Marks: g + 1 = its type is fixed in group g; -1 - row = met in this row; others are of earlier groups and rows.
    for g in range(len(offsets) - 1):
        group_mark = g + 1
        for k in range(known_offsets[g], known_offsets[g + 1]):
            mark[known_column[k]] = group_mark
            column_type[known_column[k]] = known_type[k]
        for at in range(offsets[g], offsets[g + 1]):
            row = rows[at]
            new = 0
            loses = False
            for entry in range(entry_offsets[row], entry_offsets[row + 1]):
                column = entry_column[entry]
                if ignored[column]:
                    continue
                if mark[column] != group_mark and mark[column] != -1 - row:
                    mark[column] = -1 - row
                    column_type[column] = entry_type[entry]
                    new += 1
                elif column_type[column] != entry_type[entry]:
                    conflict[row, 0] = entry
                    conflict[row, 1] = column_type[column]
                    loses = True
                    break
            if loses or new == 0:
                continue
            for entry in range(entry_offsets[row], entry_offsets[row + 1]):
                column = entry_column[entry]
                if mark[column] == -1 - row and not ignored[column]:
                    mark[column] = group_mark
                    fixed[count, 0] = g
                    fixed[count, 1] = column
                    fixed[count, 2] = column_type[column]
                    count += 1
    return count


def lay_out(
    order: Any, offsets: Any, series: Any, times: Any, out_row: Any, out_time: Any, run_series: Any, run_start: Any,
) -> int:  # fmt: skip
    """Number the rows of the blocks: sorted rows of equal series and time become one.

    Args:
        order: rows by group and series; *offsets*: where each group begins.
        out_row: int64, as long as order: gets the block row of each.
        out_time: int64: gets the time of each block row.
        run_series, run_start: int64: get series and first block row of each run of one series; run_start has
            one more, the end.

    Returns:
        number of runs; -1 when times are not ascending within a series: then the rows have to be sorted by time too.
    """
    out = -1
    runs = 0
    for g in range(len(offsets) - 1):
        last_series = -1
        last_time = 0
        for at in range(offsets[g], offsets[g + 1]):
            row = order[at]
            if series[row] != last_series:
                last_series = series[row]
                out += 1
                run_series[runs] = last_series
                run_start[runs] = out
                runs += 1
            elif times[row] > last_time:
                out += 1
            elif times[row] < last_time:
                return -1
            last_time = times[row]
            out_time[out] = last_time
            out_row[at] = out
    run_start[runs] = out + 1
    return runs


def plan_pieces(
    entry_offsets: Any, entry_column: Any, ignored: Any, order: Any, offsets: Any, out_row: Any, seen: Any,
    pieces: Any, piece_column: Any,
) -> int:  # fmt: skip
    """Cut the groups into pieces and list the columns of each.

    Args:
        seen: int64 a column, zeros; working memory.
        pieces: int64 (order + 1, 4): gets group, first position in *order*, first column in *piece_column*, and first
            cell of each piece; the row behind the last piece holds where they all end.
        piece_column: int64 (entries): gets the columns.

    Returns:
        number of pieces.
    """
    count = 0
    listed = 0
    cell = 0
    for g in range(len(offsets) - 1):
        at = offsets[g]
        while at < offsets[g + 1]:
            pieces[count, 0] = g
            pieces[count, 1] = at
            pieces[count, 2] = listed
            pieces[count, 3] = cell
            count += 1
            first = listed
            first_out = out_row[at]
            rows = 0
            entries = 0
            # One block row a turn: all that merge into it.
            while at < offsets[g + 1]:
                row_at = at
                row_listed = listed
                row_entries = entries
                while at < offsets[g + 1] and out_row[at] == out_row[row_at]:
                    row = order[at]
                    for entry in range(entry_offsets[row], entry_offsets[row + 1]):
                        column = entry_column[entry]
                        if seen[column] != count and not ignored[column]:
                            seen[column] = count
                            piece_column[listed] = column
                            listed += 1
                    entries += entry_offsets[row + 1] - entry_offsets[row]
                    at += 1
                cells = (out_row[row_at] - first_out + 1) * (listed - first)
                if rows > 0 and cells > MAX_SPARSE_CELLS and cells > MAX_CELLS_PER_ENTRY * entries:
                    at = row_at
                    listed = row_listed
                    entries = row_entries
                    break
                rows += 1
            cell += rows * (listed - first)
    pieces[count, 1] = offsets[len(offsets) - 1]
    pieces[count, 2] = listed
    pieces[count, 3] = cell
    return count


def fill_cells(
    entry_offsets: Any, entry_column: Any, entry_type: Any, entry_bits: Any, ignored: Any, order: Any, out_row: Any,
    pieces: Any, piece_column: Any, slot: Any, bits: Any, valid: Any, counts: Any, types: Any,
) -> int:  # fmt: skip
    """Spread the entries over the cells, column by column; of two values for one cell the later stays.

    Args:
        pieces, piece_column: as plan_pieces filled them, cut to their lengths.
        slot: int64 a column; working memory.
        bits: uint64 a cell, valid: bool a cell, zeros: get the values.
        counts: int64 a piece column, zeros: gets how many rows have a value.
        types: uint8 a piece column: gets the type.

    Returns:
        -1, or a column of which one piece holds two types.
    """
    for piece in range(len(pieces) - 1):
        at_start = pieces[piece, 1]
        at_stop = pieces[piece + 1, 1]
        listed = pieces[piece, 2]
        first_cell = pieces[piece, 3]
        if at_start == at_stop:
            continue
        first_out = out_row[at_start]
        rows = out_row[at_stop - 1] - first_out + 1
        for k in range(listed, pieces[piece + 1, 2]):
            slot[piece_column[k]] = k
        for at in range(at_start, at_stop):
            row = order[at]
            out = out_row[at] - first_out
            for entry in range(entry_offsets[row], entry_offsets[row + 1]):
                column = entry_column[entry]
                if ignored[column]:
                    continue
                k = slot[column]
                cell = first_cell + (k - listed) * rows + out
                if counts[k] == 0:
                    types[k] = entry_type[entry]
                elif types[k] != entry_type[entry]:
                    return int(column)
                if not valid[cell]:
                    valid[cell] = True
                    counts[k] += 1
                bits[cell] = entry_bits[entry]
    return -1


def unpack_string(bits: Any) -> tuple[int, int, int]:
    """Where a string's raw bytes begin, how many they are, 1 when they hold escapes."""
    word = u64(bits)
    return i64(word >> u64(32)), i64((word & u64(0xFFFFFFFF)) >> u64(1)), i64(word & u64(1))


def measure_strings(text: Any, bits: Any, offsets: Any) -> None:
    """Sum up the lengths of strings without their escapes into *offsets* (int64, one more than *bits*)."""
    total = 0
    offsets[0] = 0
    for k in range(len(bits)):
        start, length, escapes = unpack_string(bits[k])
        total += length
        if escapes:
            i = start
            while i < start + length:
                if text[i] == 92 and i + 1 < start + length and (text[i + 1] == 34 or text[i + 1] == 92):
                    total -= 1
                    i += 1
                i += 1
        offsets[k + 1] = total


def copy_strings(text: Any, bits: Any, out: Any) -> None:
    """Copy strings one behind the other, without their escapes."""
    at = 0
    for k in range(len(bits)):
        i, length, _ = unpack_string(bits[k])
        stop = i + length
        while i < stop:
            if text[i] == 92 and i + 1 < stop and (text[i + 1] == 34 or text[i + 1] == 92):
                i += 1
            out[at] = text[i]
            at += 1
            i += 1
