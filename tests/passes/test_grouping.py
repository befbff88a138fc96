from noria.ir.program import Operator
from noria.passes.grouping import MAX_MEMBERS, Group, Grouping, space_of
from noria.passes.liveness import unchanged_state
from tests.passes.programs import program

F = "float32[N, 4]"


def grouping(*lines):
    p = program("\n".join([f"input x: {F}", f"input z: {F}", *lines]))
    return Grouping(p.block, p.roots(), unchanged_state(p))


def groups(*lines):
    """The names of what each loop makes."""
    return [[o.outputs[0].name for o in g.members] for g in grouping(*lines).groups]


def apart(*lines):
    return [reason for _, reason in grouping(*lines).apart]


def test_a_chain_is_one_loop():
    assert groups(
        f"a: {F} = exp(x)", f"b: {F} = sin(a)", f"c: {F} = add(b, z)", "output y = c"
    ) == [["a", "b", "c"]]


def test_an_operator_alone_is_no_loop():
    alone = (f"a: {F} = exp(x)", "output y = a")
    assert groups(*alone) == []
    number = ("f: float32[] = fill(shape=(), value=2.0)", f"a: {F} = mul(x, f)", "output y = a")
    assert groups(*number) == []


def test_a_broadcast_counts_because_it_costs_memory():
    lines = (
        "input r: float32[4]",
        f"f: {F} = broadcast_to(r, shape=[N, 4])",
        f"a: {F} = mul(x, f)",
        "output y = a",
    )
    assert groups(*lines) == [["a"]]


def test_a_value_that_others_need_is_made_in_the_loop_all_the_same():
    loops = grouping(
        f"a: {F} = exp(x)",
        f"b: {F} = sin(a)",
        "t: float32[4, N] = transpose(a)",
        "output y = b",
        "output t = t",
    )
    (group,) = loops.groups
    assert [v.name for v in loops.outputs_of(group)] == ["a", "b"]


def test_no_loop_is_made_around_an_operator_that_must_run_in_between():
    lines = (
        f"a: {F} = exp(x)",
        f"s: {F} = softmax(a)",
        f"b: {F} = sin(s)",
        f"c: {F} = mul(a, b)",
        "output y = c",
    )
    assert groups(*lines) == [["b", "c"]]
    assert apart(*lines) == ["apart from exp: something else must run first"]


def test_two_loops_that_feed_each_other_through_products_stay_two():
    """a and d could join each other, and b and c too; both at once would be a cycle."""
    lines = (
        f"a: {F} = exp(x)",
        f"b: {F} = exp(z)",
        f"p: {F} = softmax(a)",
        f"q: {F} = softmax(b)",
        f"c: {F} = add(p, b)",
        f"d: {F} = add(q, a)",
        "output c = c",
        "output d = d",
    )
    loops = grouping(*lines)
    units = loops.in_order()
    assert len([u for u in units if isinstance(u, Group)]) == len(loops.groups)
    assert_valid(loops, units)


def assert_valid(loops, units):
    """Every unit comes after what it takes, and nothing is lost."""
    seen = set()
    for unit in units:
        members = unit.members if isinstance(unit, Group) else [unit]
        inside = {v for o in members for v in o.outputs}
        for o in members:
            for v in o.operands:
                made = loops.index.producer.get(v)
                assert made is None or v in seen or v in inside or made.type in ("fill",)
        seen |= inside
    operators = [o for u in units for o in (u.members if isinstance(u, Group) else [u])]
    assert sorted(map(id, operators)) == sorted(map(id, loops.operators))
    assert all(isinstance(o, Operator) for o in operators)


def test_what_depends_on_nothing_joins_the_loop_that_needs_it_late():
    lines = (
        "f: float32[] = fill(shape=(), value=2.0)",
        f"decay: {F} = mul(x, f)",
        f"s: {F} = softmax(z)",
        f"e: {F} = exp(s)",
        f"t: {F} = softmax(e)",
        f"sum: {F} = add(t, decay)",
        f"new: {F} = sin(sum)",
        "output y = new",
    )
    assert groups(*lines) == [["decay", "sum", "new"]]


def test_shapes_must_be_the_same():
    lines = (
        "input r: float32[4]",
        "a: float32[4] = exp(r)",
        "b: float32[4] = sin(a)",
        f"c: {F} = add(x, b)",
        f"d: {F} = sin(c)",
        "output y = d",
    )
    assert groups(*lines) == [["a", "b"], ["c", "d"]]


def test_what_is_computed_once_stays_apart_from_what_each_step_computes():
    lines = (
        "state w: float32[4, 4] = fill(value=1.0)",
        "input v: float32[4, 4]",
        "a: float32[4, 4] = exp(w)",
        "b: float32[4, 4] = sin(a)",
        "c: float32[4, 4] = mul(b, v)",
        "d: float32[4, 4] = sin(c)",
        "output y = d",
    )
    assert groups(*lines) == [["a", "b"], ["c", "d"]]
    assert groups(*lines, "update w = d") == [["a", "b", "c", "d"]]


def test_a_reduction_ends_a_loop():
    lines = (
        f"a: {F} = exp(x)",
        "s: float32[N] = reduce_sum(a, axis=1)",
        "l: float32[N] = log(s)",
        "m: float32[N] = sin(l)",
        "output y = m",
    )
    assert groups(*lines) == [["a", "s"], ["l", "m"]]


def test_reductions_along_the_same_axes_share_a_loop_and_others_do_not():
    lines = [
        f"a: {F} = exp(x)",
        f"b: {F} = mul(a, z)",
        "s: float32[4] = reduce_sum(a, axis=0)",
        "t: float32[4] = reduce_sum(b, axis=(-2,))",
        "output s = s",
        "output t = t",
    ]
    assert groups(*lines) == [["a", "b", "s", "t"]]
    lines[3] = "t: float32[N] = reduce_sum(b, axis=1)"
    assert groups(*lines) == [["a", "b", "s"]]
    assert "apart from mul: its loop already reduces along other axes" in apart(*lines)


def test_reductions_of_one_value_share_the_loop_that_reads_it():
    lines = [
        "s: float32[4] = reduce_sum(x, axis=0)",
        f"a: {F} = square(x)",
        "t: float32[4] = reduce_sum(a, axis=0)",
        "output s = s",
        "output t = t",
    ]
    assert groups(*lines) == [["s", "a", "t"]]
    for other in ("float32[N] = reduce_sum(x, axis=1)", "float32[4] = reduce_sum(z, axis=0)"):
        assert groups(f"s: {other}", *lines[1:]) == [["a", "t"]]


def test_a_reduction_that_needs_the_other_one_first_has_a_loop_of_its_own():
    lines = (
        "s: float32[4] = reduce_sum(x, axis=0)",
        f"a: {F} = mul(x, s)",
        "t: float32[4] = reduce_sum(a, axis=0)",
        "output t = t",
    )
    assert groups(*lines) == [["a", "t"]]


def test_what_is_computed_once_does_not_join_what_each_step_computes():
    p = program("""
      input z: float32[8, 4]
      state w: float32[8, 4] = fill(value=0.0)
      a: float32[8, 4] = mul(w, z)
      s: float32[4] = reduce_sum(a, axis=0)
      b: float32[8, 4] = exp(w)
      t: float32[4] = reduce_sum(b, axis=0)
      output s = s
      output t = t
    """)
    found = Grouping(p.block, p.roots(), unchanged_state(p)).groups
    assert [[o.outputs[0].name for o in g.members] for g in found] == [["a", "s"], ["b", "t"]]


def test_shared_loops_have_a_limit_too():
    lines = []
    for c, n in (("a", MAX_MEMBERS // 2), ("b", MAX_MEMBERS // 2)):
        lines += [f"{c}0: {F} = exp(x)"]
        lines += [f"{c}{i}: {F} = sin({c}{i - 1})" for i in range(1, n)]
        lines += [f"{c}s: float32[4] = reduce_sum({c}{n - 1}, axis=0)", f"output {c} = {c}s"]
    assert len(groups(*lines)) == 2


def test_a_loop_has_a_limit():
    lines = [f"v0: {F} = exp(x)"]
    lines += [f"v{i}: {F} = sin(v{i - 1})" for i in range(1, MAX_MEMBERS + 10)]
    found = groups(*lines, f"output y = v{MAX_MEMBERS + 9}")
    assert [len(g) for g in found] == [MAX_MEMBERS, 10]


def test_the_space_of_an_operator():
    p = program("""
      input x: float32[N, 3, 4]
      input i: int64[N]
      a: float32[N, 3, 4] = exp(x)
      b: float32[N, 3] = reduce_sum(x, axis=2)
      c: float32[N, 4] = reduce_sum(x, axis=1)
      d: float32[3] = reduce_max(x, axis=(0, 2))
      e: int64[] = reduce_sum(i)
      f: int64[N] = pow(i, i)
      g: float32[N, 3, 4] = softmax(x)
      output y = a
    """)
    full = p.inputs["x"].shape
    assert [space_of(o) for o in p.operators] == [full, full, full, full, None, None, None]


def test_what_uses_a_size_stays_behind_what_finds_it():
    loops = grouping(
        f"a: {F} = exp(x)",
        "b: bool[N, 4] = greater(a, z)",
        'ids: int64[K, 2] = nonzero(b, size="K")',
        "count: int64[] = dim_value(dim={K})",
        f"c: {F} = sin(a)",
        "output y = c",
        "output count = count",
    )
    order = [getattr(unit, "type", "loop") for unit in loops.in_order()]
    assert order == ["loop", "nonzero", "dim_value"]
