"""All emitters: importing this registers them."""

from noria.convert.onnx import (  # noqa: F401
    export_control,
    export_detection,
    export_index,
    export_math,
    export_nn,
    export_recurrent,
    export_reduce,
    export_sequence,
    export_shape,
    export_vision,
)
