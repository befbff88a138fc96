"""Operators of Fluid that noria does not convert, and why."""

from __future__ import annotations

from noria.convert.fluid.handlers import fluid_op

_REASONS = {
    "communication between processes: distribution is a pass over the finished Program": (
        "allreduce broadcast c_allgather c_allreduce_max c_allreduce_min c_allreduce_prod "
        "c_allreduce_sum c_broadcast c_comm_init c_comm_init_all c_reducescatter "
        "c_sync_calc_stream c_sync_comm_stream"
    ),
    "talks to a parameter server": (
        "checkpoint_notify distributed_lookup_table fake_init fetch_barrier fl_listen_and_serv "
        "listen_and_serv prefetch pull_box_sparse pull_sparse pull_sparse_v2 push_dense recv "
        "recv_save ref_by_trainer_id send send_barrier"
    ),
    "reads data: batches are fed": "create_double_buffer_reader create_py_reader read",
    "the data of a batch and what is asked for: the reader turns them into inputs and outputs": (
        "feed fetch"
    ),
    "part of a backward Program, which noria makes itself": "rnn_memory_helper_grad",
    "touches files while it runs: a model's parameters are read when it is converted": (
        "load load_combine save save_combine"
    ),
    "calls Python of the program that wrote the model": "py_func run_program",
    "manages the memory or devices of Fluid's own engine": (
        "coalesce_tensor delete_var get_places"
    ),
}

UNSUPPORTED: dict[str, str] = {
    name: reason for reason, names in _REASONS.items() for name in names.split()
}

for _name, _reason in UNSUPPORTED.items():
    fluid_op.refuse(_reason, _name)
