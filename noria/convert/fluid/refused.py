"""Operators of Fluid that are not converted, each with the reason."""

from __future__ import annotations

from noria.convert.fluid.handlers import fluid_op

FILES = "it reads or writes files while the model runs; parameters are loaded by fluid.load"
READERS = "it reads data while the model runs; feed the arrays instead"
NETWORK = "it talks to other processes; a Program is distributed by noria's own passes"
SERVERS = "it talks to parameter servers"
PYTHON = "it calls Python code that is not in the file"
SCOPES = "it manages memory that noria plans by itself"

REASONS = {
    FILES: ("load", "load_combine", "recv_save", "save", "save_combine"),
    READERS: ("create_double_buffer_reader", "create_py_reader", "read"),
    NETWORK: (
        "allreduce", "broadcast", "c_allgather", "c_allreduce_max", "c_allreduce_min",
        "c_allreduce_prod", "c_allreduce_sum", "c_broadcast", "c_comm_init", "c_comm_init_all",
        "c_gen_nccl_id", "c_reducescatter", "c_sync_calc_stream", "c_sync_comm_stream",
        "gen_nccl_id",
    ),
    SERVERS: (
        "checkpoint_notify", "distributed_lookup_table", "fetch_barrier", "fl_listen_and_serv",
        "listen_and_serv", "prefetch", "pull_box_sparse", "pull_sparse", "pull_sparse_v2",
        "push_box_sparse", "push_dense", "push_sparse", "push_sparse_v2", "recv",
        "ref_by_trainer_id", "send", "send_barrier", "split_byref_ids",
    ),
    PYTHON: ("py_func", "run_program"),
    SCOPES: ("coalesce_tensor", "delete_var", "fake_init", "get_places"),
}  # fmt: skip

for _reason, _names in REASONS.items():
    fluid_op.refuse(_reason, *_names)
