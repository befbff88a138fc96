"""Texts of the kernels that run a recurrent layer, which `recurrent_source.py` puts together."""

# Longest first, by Shell's method (1959) with Knuth's gaps; the keys are lengths, then rows.
SORT = """
    me = thread_id()
    if me == 0:
        for n in range(rows):
            length = int64(load_SPLITS(splits, n + 1)) - int64(load_SPLITS(splits, n))
            store_int64(keys, n, (length << 32) | n)
        gap = 1
        while gap < rows // 3:
            gap = 3 * gap + 1
        while gap > 0:
            for n in range(gap, rows):
                key = load_int64(keys, n)
                at = n
                while at >= gap and load_int64(keys, at - gap) < key:
                    store_int64(keys, at, load_int64(keys, at - gap))
                    at -= gap
                store_int64(keys, at, key)
            gap //= 3
        fill_bytes(counters, 0, (groups + 1) * LINE)
    barrier()
"""

# What a thread of the team is: for good a member of a group, with a slice of the units; or, where
# units are not shared, one that takes a group whenever it has none, so that a core which is slowed
# takes fewer. A team smaller than a grid with slices leaves all to one thread.
ROLE = """
    alone = slices > 1 and team_size() < members
    if me >= members or (alone and me > 0):
        return 0
    first_slice = 0
    slot = me
    if slices > 1:
        first_slice = me // groups
        slot = me % groups
    last_slice = first_slice + 1
    all_groups = groups
    if alone:
        groups = 1
        last_slice = slices
    blocks = padded // UNITS
    first_block = blocks * first_slice // slices
    last_block = blocks * last_slice // slices
    first_unit = first_block * UNITS
    units = min(last_block * UNITS, size) - first_unit
    towards = 1
    if reverse != 0:
        towards = -1
    lists += me * room * 24
    h += slot * room * padded * H_BYTES
    h_other += slot * room * padded * H_BYTES
    state += slot * room * padded * 4
    dz += slot * room * (size * GATES * DZ_BYTES + slices * SPACE)
    parts += slot * slices * room * padded * 4
    half = all_groups * slices * room * padded * 4
    zeros = private + me * private_size
    stage = zeros + UNITS * 4
    table = stage + STAGES * UNITS * 4
    tile = table + (FIELDS * 8 + LINE - 1) // LINE * LINE
    fill_bytes(zeros, 0, tile - zeros)
    store_int64(table, AT_A_STEP, 4)
    store_int64(table, AT_B_ROW, PANEL * 4)
    queue = counters
    counters += (1 + slot) * LINE
    met = 0
    goal = 0
    if slices > 1 and not alone:
        goal = slices
    group = slot
    if slices == 1:
        group = take(queue, 1)
    while group < groups:
"""

# The list of a group: row, length, position of its first step. Where threads take groups, the first
# has the longest rows, in whole tiles, the next the longest of the rest: those of a group end at
# about the same step, and the short ones come last. Otherwise rows are dealt to and fro, so that
# the groups have as many steps to do as each other.
DEAL = """
        count = 0
        most = (rows + groups - 1) // groups
        if groups > members:
            most = room
        for i in range(most):
            at = group * most + i
            if groups <= members:
                at = i * groups + (group if i % 2 == 0 else groups - 1 - group)
            if at < rows:
                key = load_int64(keys, at)
                n = key & 0xFFFFFFFF
                edge = int64(load_SPLITS(splits, n))
                if reverse != 0:
                    edge = int64(load_SPLITS(splits, n + 1)) - 1
                store_int64(lists, 3 * i, n)
                store_int64(lists, 3 * i + 1, key >> 32)
                store_int64(lists, 3 * i + 2, edge)
                count = i + 1
        steps = 0
        if count > 0:
            steps = min(load_int64(lists, 1), end_step)
        for i in range(count if begin_step == 0 else 0):
            n = load_int64(lists, 3 * i)
            at = i * padded + first_unit
            fill_bytes(h + at * H_BYTES, 0, (last_block - first_block) * UNITS * H_BYTES)
            fill_bytes(state + at * 4, 0, (last_block - first_block) * UNITS * 4)
"""

# What a thread does when its group has ended.
NEXT = """
        group = groups
        if slices == 1:
            group = take(queue, 1)
    return 0
"""

# The members of a group wait for each other, at a counter that only grows.
MEET = """
if goal > 0:
    atomic_add(counters, 1)
    met += goal
    turns = 0
    while load_shared(counters) < met:
        turns += 1
        if turns % 64 == 0:
            yield_thread()
        pause()
"""

FORWARD = """
        if first != 0:
            start = first + (n * size + first_unit) * 4
            FIRST
        if first_state != 0:
            start = first_state + (n * size + first_unit) * 4
            copy_bytes(state + at * 4, start, units * 4)
    words = (size + WORD - 1) // WORD
    store_int64(table, AT_B_PANEL, words * PANEL * 4)
    store_int64(table, AT_C, tile)
    store_int64(table, AT_A_ROW, padded * H_BYTES)
    active = count
    for t in range(begin_step, steps):
        MEET
        while active > 0 and load_int64(lists, 3 * active - 2) <= t:
            active -= 1
PHASES
"""

# The state before the first step, as what is multiplied. Rows of halves may end in half a word,
# which no step writes.
FIRST = "copy_bytes(h + at * 4, start, units * 4)"
FIRST_ROUNDED = """
for l in range(units):
    independent()
    store_bfloat16(h + at * 2, l, load_float32(start, l))
"""
CLEAR = """
        fill_bytes(h_other + at * 2, 0, (last_block - first_block) * UNITS * 2)
"""

# One product of a step and what is made of it. GIVEN: the array that is multiplied; MATRIX: the
# packed weight; NEXT: where `next` goes; COLUMNS: of the product; TILE: of a row of the buffer.
PHASE = """
        store_int64(table, AT_N, COLUMNS)
        store_int64(table, AT_C_ROW, TILE * 4)
        for block in range(first_block, last_block):
            u = block * UNITS
            lanes = min(UNITS, size - u)
            panel = MATRIX + block * words * TILE * 4
            for begin in range(0, active, CHUNK):
                end = min(begin + CHUNK, active)
                store_int64(table, AT_M, end - begin)
                depth = DEPTH if end - begin > ROWS else words
                for k in range(0, words, depth):
                    store_int64(table, AT_A, GIVEN + begin * padded * H_BYTES + k * 4)
                    store_int64(table, AT_B, panel + k * PANEL * 4)
                    store_int64(table, AT_K, min(depth, words - k))
                    store_int64(table, AT_ACCUMULATE, min(k, 1))
                    call1(product, table)
                for r in range(begin, end if lanes == UNITS else begin):
                    place = load_int64(lists, 3 * r + 2) + towards * t
                    p_tile = tile + (r - begin) * TILE * 4
                    at = r * padded + u
                    p_h = h + at * H_BYTES
                    p_next = NEXT + at * H_BYTES
                    p_state = state + at * 4
                    WHOLE_LANES
                for r in range(end if lanes == UNITS else begin, end):
                    place = load_int64(lists, 3 * r + 2) + towards * t
                    p_tile = tile + (r - begin) * TILE * 4
                    at = r * padded + u
                    p_h = h + at * H_BYTES
                    p_next = NEXT + at * H_BYTES
                    p_state = state + at * 4
                    CUT_LANES
"""

# After a step of one phase what it made is what the next step reads.
SWAP = """
        swap = h
        h = h_other
        h_other = swap
"""

BACKWARD = """
    store_int64(table, AT_B_PANEL, 0)
    store_int64(table, AT_C_ROW, padded * 4)
    columns = (size + PANEL - 1) // PANEL * PANEL
    active = count
    for t in range(begin_step, steps):
        if t > begin_step:
            SUM
        while active > 0 and load_int64(lists, 3 * active - 2) <= t:
            active -= 1
        for slice in range(first_slice, last_slice):
            begin = blocks * slice // slices * UNITS
            width = min(blocks * (slice + 1) // slices * UNITS, size) - begin
            lanes = width % UNITS  # of the last block, if it is cut
            words = (width * GATES + WORD - 1) // WORD
            line = words * 4 + LINE
            handed = dz + (begin * GATES * DZ_BYTES + slice * SPACE) * room
            for r in range(active):
                place = load_int64(lists, 3 * r + 2) + towards * t
                ends = load_int64(lists, 3 * r + 1) == t + 1
                for u in range(begin, begin + width - lanes, UNITS):
                    at = (r * padded + u) * 4
                    p_dh = h + at
                    p_state = state + at
                    WHOLE_LANES
            for r in range(active if lanes > 0 else 0):
                place = load_int64(lists, 3 * r + 2) + towards * t
                ends = load_int64(lists, 3 * r + 1) == t + 1
                u = begin + width - lanes
                at = (r * padded + u) * 4
                p_dh = h + at
                p_state = state + at
                CUT_LANES
        to = h
        if goal > 0:
            to = parts + t % 2 * half + first_slice * room * padded * 4
        store_int64(table, AT_M, active)
        for slice in range(first_slice, last_slice):
            begin = blocks * slice // slices * UNITS
            width = min(blocks * (slice + 1) // slices * UNITS, size) - begin
            words = (width * GATES + WORD - 1) // WORD
            handed = dz + (begin * GATES * DZ_BYTES + slice * SPACE) * room
            panel = weight + begin * GATES // WORD * columns * 4
            adds = 0
            if goal == 0:
                adds = max(ADDS, slice - first_slice)
            depth = DEPTH if active > ROWS else words
            store_int64(table, AT_A_ROW, words * 4 + LINE)
            for u in range(0, size, PANEL):
                store_int64(table, AT_C, to + u * 4)
                store_int64(table, AT_N, min(PANEL, size - u))
                for k in range(0, words, depth):
                    store_int64(table, AT_A, handed + k * 4)
                    store_int64(table, AT_B, panel + k * PANEL * 4)
                    store_int64(table, AT_K, min(depth, words - k))
                    store_int64(table, AT_ACCUMULATE, min(adds + k, 1))
                    call1(product, table)
                panel += words * PANEL * 4
        MEET
    t = steps
    if steps > begin_step:
        SUM
    for i in range(count):
        to = load_int64(lists, 3 * i) * size + first_unit
        at = (i * padded + first_unit) * 4
        LAST
        if last_state != 0:
            copy_bytes(last_state + to * 4, state + at, units * 4)
"""

LAST = "copy_bytes(last + to * 4, h + at, units * 4)"
LAST_ROUNDED = """
for l in range(units):
    independent()
    store_bfloat16(last + to * 2, l, load_float32(h + at, l))
"""

# Of gradients of gates in words, the last half word of a row where a slice has one too few.
CLEAR_HANDED = """
    if size * GATES % 2 != 0:
        start = (first_unit * GATES * 2 + first_slice * SPACE) * room
        rest = (units * GATES * 2 + (last_slice - first_slice) * SPACE) * room
        fill_bytes(dz + start, 0, rest)
"""

# A cell of two phases backwards, each row by one thread: nobody meets.
BACKWARD_PHASED = """
    store_int64(table, AT_B_PANEL, 0)
    store_int64(table, AT_C_ROW, padded * 4)
    lanes = size % UNITS  # of the last block, if it is cut
    begin = 0
    width = size
    active = count
    for t in range(begin_step, steps):
        while active > 0 and load_int64(lists, 3 * active - 2) <= t:
            active -= 1
PHASES
    for i in range(count):
        copy_bytes(last + load_int64(lists, 3 * i) * size * 4, h + i * padded * 4, size * 4)
"""

# What is made of the gradients that have come so far, and one product of that. COLUMNS: what is
# handed to it; MATRIX: its packed weight; RESULT: where it goes; ADDS: whether it is added there.
PHASE_BACKWARD = """
        line = (COLUMNS + LINE // 4) * 4
        handed = dz
        for r in range(active):
            place = load_int64(lists, 3 * r + 2) + towards * t
            ends = load_int64(lists, 3 * r + 1) == t + 1
            for u in range(0, size - lanes, UNITS):
                at = (r * padded + u) * 4
                p_dh = h + at
                p_state = state + at
                WHOLE_LANES
        for r in range(active if lanes > 0 else 0):
            place = load_int64(lists, 3 * r + 2) + towards * t
            ends = load_int64(lists, 3 * r + 1) == t + 1
            u = size - lanes
            at = (r * padded + u) * 4
            p_dh = h + at
            p_state = state + at
            CUT_LANES
        panel = MATRIX
        depth = DEPTH if active > ROWS else COLUMNS
        store_int64(table, AT_M, active)
        store_int64(table, AT_A_ROW, line)
        for u in range(0, size, PANEL):
            store_int64(table, AT_C, RESULT + u * 4)
            store_int64(table, AT_N, min(PANEL, size - u))
            for k in range(0, COLUMNS, depth):
                store_int64(table, AT_A, handed + k * 4)
                store_int64(table, AT_B, panel + k * PANEL * 4)
                store_int64(table, AT_K, min(depth, COLUMNS - k))
                store_int64(table, AT_ACCUMULATE, min(ADDS + k, 1))
                call1(product, table)
            panel += COLUMNS * PANEL * 4
"""

# The gradient of h, of a member's units: the sum of what the members of its group found from the
# gates of theirs, in the step before, which `active` rows had.
SUM = """
for slice in range(slices if goal > 0 else 0):
    found = parts + (t - 1) % 2 * half + slice * room * padded * 4
    for r in range(active):
        at = (r * padded + first_unit) * 4
        p_dh = h + at
        p_found = found + at
        for l in range(units if slice == 0 and ADDS == 0 else 0):
            independent()
            store_float32(p_dh, l, load_float32(p_found, l))
        for l in range(0 if slice == 0 and ADDS == 0 else units):
            independent()
            store_float32(p_dh, l, load_float32(p_dh, l) + load_float32(p_found, l))
"""
