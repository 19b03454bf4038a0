"""Recurrent layers: on a GPU cuDNN runs them, and CUDA autocast casts all that cuDNN is given to float16.

``nn.LSTM`` and its like call one op for each kind of layer, which autocast leaves alone. For CUDA tensors that op
calls ``_cudnn_rnn``, whose kernel for autocast flattens and casts the weights itself, and casts input and states: to
float16 whatever dtype the region has (``aten/src/ATen/cudnn/AutocastRNN.cpp``; seen of fake tensors in the CUDA
builds of 2.6 to 2.14, in a bfloat16 region too). CPU tensors never come to ``_cudnn_rnn``, so the casts are made
where the layer's op is called.

Taken for granted: that cuDNN is there and switched on, as it is by default. A GPU's gradients of the weights and its
dropout masks come from cuDNN and are not reproduced.
"""

from __future__ import annotations

CUDNN_OP = "_cudnn_rnn"
# A tensor, or packed sequences (`data`).
LAYER_OPS = tuple(f"{kind}.{form}" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu") for form in ("input", "data"))
