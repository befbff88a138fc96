"""Every kernel of noria; importing this module registers them.

The order of the imports means nothing: who is asked first, `Kernel.priority` tells.
"""

from noria.kernels.numba import attention as _attention
from noria.kernels.numba import bag as _bag
from noria.kernels.numba import conv as _tiled_conv
from noria.kernels.numba import conv_input_grad as _conv_input_grad
from noria.kernels.numba import conv_pairs as _conv_pairs
from noria.kernels.numba import conv_strips as _conv_strips
from noria.kernels.numba import conv_weight_grad as _conv_weight_grad
from noria.kernels.numba import copy as _copy
from noria.kernels.numba import crf as _crf
from noria.kernels.numba import crf_loss as _crf_loss
from noria.kernels.numba import ctc as _ctc
from noria.kernels.numba import depthwise as _depthwise
from noria.kernels.numba import elementwise as _elementwise
from noria.kernels.numba import embedding as _embedding
from noria.kernels.numba import few_channels_grad as _few_channels_grad
from noria.kernels.numba import few_rows as _few_rows
from noria.kernels.numba import halves as _halves
from noria.kernels.numba import layer_norm as _layer_norm
from noria.kernels.numba import linear as _linear
from noria.kernels.numba import loss as _loss
from noria.kernels.numba import masked_grad as _masked_grad
from noria.kernels.numba import metric as _metric
from noria.kernels.numba import norm as _norm
from noria.kernels.numba import norm_pair as _norm_pair
from noria.kernels.numba import normed_conv as _normed_conv
from noria.kernels.numba import packed_linear as _packed_linear
from noria.kernels.numba import planes as _planes
from noria.kernels.numba import pool as _pool
from noria.kernels.numba import pool3d as _pool3d
from noria.kernels.numba import pool_places as _pool_places
from noria.kernels.numba import pooled_conv as _pooled_conv
from noria.kernels.numba import pooled_norm as _pooled_norm
from noria.kernels.numba import product_loop as _product_loop
from noria.kernels.numba import ragged as _ragged
from noria.kernels.numba import random as _random
from noria.kernels.numba import recurrent as _recurrent
from noria.kernels.numba import recurrent_stack as _recurrent_stack
from noria.kernels.numba import reduce as _reduce
from noria.kernels.numba import resize as _resize
from noria.kernels.numba import row_product as _row_product
from noria.kernels.numba import row_updates as _row_updates
from noria.kernels.numba import rows as _rows
from noria.kernels.numba import sampling as _sampling
from noria.kernels.numba import sequence as _sequence
from noria.kernels.numba import strassen as _strassen
from noria.kernels.numba import sweep as _sweep
from noria.kernels.numba import taken as _taken
from noria.kernels.numba import taken_input as _taken_input
from noria.kernels.numba import taken_rows as _taken_rows
from noria.kernels.numba import weight_grads as _weight_grads
from noria.kernels.numba import weight_product as _weight_product
from noria.kernels.numba import winograd as _winograd
from noria.kernels.numba import winograd_grad as _winograd_grad
from noria.kernels.onednn import conv as _conv
from noria.kernels.onednn import gemm as _gemm
from noria.kernels.onednn import linalg as _linalg

__all__: list[str] = []
_modules = (_copy, _elementwise, _planes, _reduce, _loss, _norm, _random, _resize, _sampling)
_pools = (_pool, _pool3d, _pool_places, _pooled_conv, _pooled_norm)
_products = (_halves, _linear, _few_rows, _gemm, _linalg, _product_loop, _strassen)
_convolutions = (_tiled_conv, _conv_pairs, _conv_strips, _conv_weight_grad, _depthwise, _conv)
_gradients = (_conv_input_grad, _few_channels_grad, _normed_conv)
_taken_up = (_taken, _taken_input, _taken_rows)
_updates = (_sweep,)
_tables = (_metric, _embedding, _bag, _rows, _row_updates)
_sequences = (_crf, _crf_loss, _ctc, _ragged, _recurrent, _recurrent_stack, _sequence)
_winograds = (_winograd, _winograd_grad)
_masked = (_masked_grad, _norm_pair)
_transformers = (_attention, _layer_norm, _packed_linear)
_trained = (_row_product, _weight_grads, _weight_product)
