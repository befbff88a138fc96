"""Random Programs made to break memory planning: views, chains in place, state in every role."""

import numpy as np

from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from tests.runtime.programs import N, value

UNARY = ["relu", "tanh", "sigmoid", "neg", "abs", "square", "identity", "stop_gradient", "softplus"]
F32 = "float32"
BINARY = ["add", "sub", "mul", "maximum", "minimum"]


class Fuzz:
    """Grows a Program operator by operator; `values` may be used by the next one."""

    def __init__(self, seed, length=24):
        self.rng = np.random.default_rng(seed)
        self.program = Program(f"fuzz_{seed}")
        self.values = []
        with Builder(self.program) as self.builder:
            self._declare()
            for _ in range(length):
                self.values.append(self._bounded(self._grow()))
                if self.rng.random() < 0.15:
                    self._update_early()
            self._finish()

    def _declare(self):
        b, rng = self.builder, self.rng
        for name, shape in (("x", (N, 4)), ("y", (N, 2, 2)), ("z", (4, 4))):
            self.values.append(b.input(name, shape))
        for name, shape in (("a", (4, 4)), ("b", (4, 4)), ("c", (4,)), ("d", ()), ("e", (4, 4))):
            init = ("constant", {"value": rng.normal(size=shape).astype("float32")})
            self.values.append(b.state(name, shape, init=init))

    def pick(self, *shapes):
        """Any value, of one of the shapes if some are given; recent ones more often."""
        found = [v for v in self.values if not shapes or v.shape in shapes]
        weights = np.linspace(1, 3, len(found))
        return found[self.rng.choice(len(found), p=weights / weights.sum())]

    def _grow(self):
        kinds = [self._unary, self._binary, self._view, self._product, self._other]
        return kinds[self.rng.choice(len(kinds), p=[0.3, 0.3, 0.2, 0.1, 0.1])]()

    def _bounded(self, v):
        """Squares of squares must not overflow."""
        return o.tanh(v) if self.rng.random() < 0.3 else v

    def _unary(self):
        return getattr(o, self.rng.choice(UNARY))(self.pick())

    def _binary(self):
        x = self.pick()
        y = self.pick(x.shape, ()) if self.rng.random() < 0.8 else x
        op = getattr(o, self.rng.choice(BINARY))
        return op(x, y) if self.rng.random() < 0.5 else op(y, x)

    def _view(self):
        other = {
            (N, 4): (N, 2, 2),
            (N, 2, 2): (N, 4),
            (4, 4): (16,),
            (16,): (4, 4),
            (4,): (1, 4),
            (1, 4): (4,),
        }
        x = self.pick(*other)
        return o.reshape(x, shape=other[x.shape])

    def _product(self):
        w = self.pick((4, 4))
        if self.rng.random() < 0.3:
            return o.matmul(w, self.pick((4, 4)))
        return o.linear(self.pick((N, 4), (4, 4), (1, 4)), w, self.pick((4,)))

    def _other(self):
        rng = self.rng
        kind = rng.integers(8)
        if kind == 0:
            return o.reduce_mean(self.pick((N, 4), (4, 4)), axis=0)
        if kind == 1:
            return o.reduce_sum(self.pick())
        if kind == 2:
            return o.transpose(self.pick((4, 4)), perm=(1, 0))
        if kind == 3:
            return o.broadcast_to(self.pick((4,), ()), shape=(4, 4))
        if kind == 4:
            return o.broadcast_to(self.pick((4,), (), (1, 4)), shape=(N, 4))
        if kind == 5:  # fixed, but another one for each N
            return o.div(o.fill(shape=(4,), value=1.0), o.cast(o.dim_value(dim=N + 1), dtype=F32))
        x = self.pick()
        if kind == 6:
            return o.where(o.greater(x, 0.0), x, self.pick(x.shape, ()))
        return o.softmax(self.pick((N, 4), (4, 4), (4,)), axis=-1)

    def _update_early(self):
        """A new value of a state that may be read again, itself or by a view."""
        name = str(self.rng.choice(list(self.program.state)))
        state = value(self.builder, name)
        self.values.append(o.add(self.pick(state.shape), self.pick(state.shape, ())))
        self.builder.update(name, self.values[-1])

    def _finish(self):
        p, rng = self.program, self.rng
        chosen = [self.values[i] for i in rng.choice(len(self.values), 6)]
        p.outputs = {f"out{i}": v for i, v in enumerate(chosen)}
        p.outputs["again"] = chosen[0]
        p.block.outputs = list(p.outputs.values())
        for name in rng.permutation(list(p.state))[: rng.integers(0, 4)]:
            state = value(self.builder, name)
            same = [v for v in self.values if v.shape == state.shape]
            self.builder.update(str(name), same[rng.integers(len(same))])
