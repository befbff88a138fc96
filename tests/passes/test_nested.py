from dataclasses import replace

from noria.ir.program import Block
from noria.passes.nested import effects, enclosed, map_blocks
from tests.passes.programs import program

COND = """
  input p: bool[]
  input x: float32[N]
  input key: int64[2]
  cond: float32[N] = cond(p, x, key) {{
    then(x_1: float32[N], key_1: int64[2]) {{
      a: float32[N] = {op}
      return a
    }}
    otherwise(x_2: float32[N], key_2: int64[2]) {{
      return x_2
    }}
  }}
  output y = cond
"""


def cond(op):
    return program(COND.format(op=op)).operators[0]


def test_an_operator_whose_blocks_do_not_change_is_the_same_object():
    operator = cond("relu(x_1)")
    assert map_blocks(operator, lambda block: block) is operator


def test_every_block_is_changed():
    operator = cond("relu(x_1)")
    seen = []

    def change(block):
        seen.append(block)
        return Block(list(block.inputs), list(block.operators), list(block.outputs))

    after = map_blocks(operator, change)
    assert seen == list(operator.blocks.values()) and after is not operator
    assert all(after.blocks[n] is not b for n, b in operator.blocks.items())


def test_the_body_of_a_fused_operator_is_left_alone():
    sealed = replace(cond("relu(x_1)"), type="fused")
    assert map_blocks(sealed, lambda block: Block()) is sealed


def test_effects_are_those_of_everything_inside():
    assert set(effects(cond("relu(x_1)"))) == {"pure"}
    assert set(effects(cond("uniform(key_1, shape=[N])"))) == {"pure", "random"}


def test_operators_become_the_body_of_one():
    before = program(
        "input x: float32[N]\na: float32[N] = exp(x)\nb: float32[N] = mul(a, x)\noutput y = b"
    )
    made = enclosed(before.operators, "sweep", "a_pass", before.operators[1].outputs)
    body = made.blocks["body"]
    assert (made.type, made.made_by) == ("sweep", "a_pass")
    assert made.outputs == before.operators[1].outputs and [v.name for v in made.inputs] == ["x"]
    assert [op.type for op in body.operators] == ["exp", "mul"]
    assert body.outputs == list(body.operators[1].outputs)
    assert body.operators[1].operands == (body.operators[0].outputs[0], body.inputs[0])
