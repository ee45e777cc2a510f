"""Kernels of the emulated NPU that are wrong, each as a kernel's author could have made it.

One mistake each, in every call of its operators that it concerns.  Tiles and blocks are of 16 where
nothing else is said; what a mistake does not concern is computed as by the default kernels, bit for
bit.  `--emulated-kernels broken/NAME` takes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

_PRODUCT = ("addmm", "mm", "bmm", "baddbmm", "matmul", "linear", "mv", "addmv")
_BIAS = ("addmm", "linear", "baddbmm")
_CONV = ("convolution",)
_ATTENTION = ("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
              "_scaled_dot_product_attention_math_for_mps", "_scaled_dot_product_attention_math",
              "_fused_sdp_choice", "scaled_dot_product_flash_attention")  # fmt: skip
# torch_npu asks for a mean where a pool covers all of an image.
_MEAN = ("mean", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")
_SOFTMAX = ("_softmax", "softmax", "_safe_softmax")
_LAYER = ("native_layer_norm", "layer_norm")
_GROUP = ("native_group_norm", "group_norm")
_BATCH = ("native_batch_norm", "batch_norm", "_native_batch_norm_legit_no_training",
          "_batch_norm_impl_index", "_native_batch_norm_legit")  # fmt: skip
_MAX_POOL = ("max_pool2d_with_indices", "max_pool2d")
_ADAPTIVE = ("_adaptive_avg_pool2d", "adaptive_avg_pool2d")
_INDEX = ("index", "index_select", "gather", "embedding")
_RESIZE = ("upsample_bicubic2d", "upsample_bilinear2d")
_COPY = ("clone", "copy", "contiguous", "_to_copy", "reshape", "_reshape_copy", "_unsafe_view")
ANY = ("*",)


@dataclasses.dataclass(frozen=True)
class Broken:
    """A wrong kernel: the aten operators that give its results, without namespace, and why."""

    operators: tuple[str, ...]
    what: str

    def gives(self, operator: str) -> bool:
        """Whether a result of this operator ("aten::add_.Tensor") can be this kernel's."""
        name = operator.rpartition("::")[2].partition(".")[0].rstrip("_")
        return self.operators == ANY or name in {known.rstrip("_") for known in self.operators}


BROKEN: Mapping[str, Broken] = {
    # ---- matrix products
    "matmul_k_tail": Broken(_PRODUCT, "the last k % 16 terms of every sum are missing"),
    "matmul_half_sums": Broken(_PRODUCT, "sums of 16 terms are added up in float16"),
    "matmul_truncated_sums": Broken(_PRODUCT, "sums are rounded towards zero after every 16 terms"),
    "matmul_bf16_factors": Broken(_PRODUCT, "float32 factors are rounded to bfloat16"),
    "matmul_bf16_pairs": Broken(
        _PRODUCT, "of the three bfloat16 parts of a float32 factor the third is missing"
    ),
    "matmul_half_result": Broken(_PRODUCT, "float32 results have gone through float16"),
    "matmul_last_tile": Broken(
        _PRODUCT, "the columns behind the last whole tile are those before them"
    ),
    "matmul_last_row": Broken(
        _PRODUCT, "the last row of a tile that is not full is the row above it"
    ),
    "matmul_last_column": Broken(_PRODUCT, "the last column (class) lacks its last 16 terms"),
    "matmul_sixteen_columns": Broken(_PRODUCT, "columns 16 to 31 lack their last 16 terms"),
    "matmul_tile_twice": Broken(_PRODUCT, "the third tile of terms is added twice"),
    "matmul_batch_factor": Broken(
        _PRODUCT, "the last product of a batch takes the right factor of the one before"
    ),
    "addmm_bias_twice": Broken(_BIAS, "the bias is added twice"),
    "addmm_bias_half": Broken(_BIAS, "a float32 bias is rounded to float16"),
    "addmm_bias_first_tile": Broken(_BIAS, "only the first 64 columns get their bias"),
    "addmm_bias_tail": Broken(_BIAS, "the columns behind the last whole tile get no bias"),
    # ---- convolutions
    "conv_padding_repeats": Broken(
        _CONV, "padding at the right and at the bottom repeats the edge instead of 0"
    ),
    "conv_padding_wraps": Broken(_CONV, "padding at the right holds the next row's first values"),
    "conv_dilation_ignored": Broken(_CONV, "a dilated kernel is applied without dilation"),
    "conv_stride_phase": Broken(_CONV, "with stride 2 every window starts one pixel late"),
    "conv_kernel_last_row": Broken(_CONV, "the last row of kernels beyond 3x3 is left out"),
    "conv_pointwise_channel": Broken(
        _CONV, "the last output channel of a 1x1 kernel lacks its last 16 input channels"
    ),
    "conv_depthwise_neighbour": Broken(
        _CONV, "the last channel of a depthwise convolution has the filter of the one before"
    ),
    "conv_int8_channel": Broken(_CONV, "the middle output channel's weights have 8 bits"),
    "conv_groups_interleaved": Broken(_CONV, "groups take every n-th input channel"),
    "conv_input_tail": Broken(_CONV, "input channels behind the last whole tile are left out"),
    "conv_bias_twice": Broken(_CONV, "the bias is added twice"),
    "conv_bias_first_tile": Broken(_CONV, "only the first 16 channels get their bias"),
    "conv_half_result": Broken(_CONV, "float32 results have gone through float16"),
    "conv_last_columns": Broken(
        _CONV, "columns behind the last whole tile are computed one pixel to the left"
    ),
    "conv_last_pixel": Broken(_CONV, "the pixel at the bottom right is the one to its left"),
    "conv_batch_tail": Broken(
        _CONV, "beyond four images the last one's last 16 channels are those of the one before"
    ),
    "conv_transposed_phase": Broken(
        _CONV, "the result of a transposed convolution starts one pixel late"
    ),
    "conv_bf16_weight": Broken(_CONV, "float32 weights are rounded to bfloat16"),
    "conv_hf32_factors": Broken(_CONV, "factors are rounded to HF32 where that is not allowed"),
    "conv_half_sums": Broken(_CONV, "sums over 16 input channels are added up in float16"),
    "conv_winograd_constant": Broken(
        _CONV, "3x3 kernels by Winograd's F(4x4) with 0.0417 for 1/24"
    ),
    "conv_winograd_half": Broken(
        _CONV, "3x3 kernels by Winograd's F(4x4) with transformed inputs in float16"
    ),
    "hf32_truncated": Broken(
        _PRODUCT + _CONV, "factors that may be HF32 are cut off to it, not rounded"
    ),
    # ---- sums and pools
    "mean_tail": Broken(_MEAN, "the last n % 16 terms are missing"),
    "mean_half_sums": Broken(_MEAN, "sums of 16 terms are added up in float16"),
    "mean_divisor": Broken(_MEAN, "the divisor is the number of terms rounded up to eight"),
    "mean_reciprocal_half": Broken(_MEAN, "1 / n is rounded to float16"),
    "mean_last_channel": Broken(_MEAN, "the last mean is the one before it"),
    "mean_last_item": Broken(_MEAN, "the last image has the means of the one before"),
    "sum_tail": Broken(("sum",), "the last n % 16 terms are missing"),
    "norm_last_term": Broken(("linalg_vector_norm", "norm"), "the last term is missing"),
    "var_population": Broken(
        ("var", "std", "var_mean", "std_mean"), "the correction of the divisor is ignored"
    ),
    "avg_pool_include_pad": Broken(("avg_pool2d",), "count_include_pad is read the wrong way"),
    "avg_pool_edge": Broken(("avg_pool2d",), "windows at the right lack the last column"),
    "adaptive_pool_last_row": Broken(_ADAPTIVE, "the last row of the input is left out"),
    "adaptive_pool_divisor": Broken(_ADAPTIVE, "the divisor counts the width rounded up to eight"),
    "max_pool_zero_padding": Broken(_MAX_POOL, "padding is 0 instead of minus infinity"),
    "max_pool_edge": Broken(_MAX_POOL, "windows at the right lack the last column"),
    "max_pool_phase": Broken(_MAX_POOL, "with stride 2 every window starts one pixel late"),
    "softmax_tail": Broken(_SOFTMAX, "the last n % 16 powers are missing in the sum"),
    "softmax_wrong_axis": Broken(
        _SOFTMAX, "rows whose length is no multiple of 16 are taken along the other axis"
    ),
    "softmax_half_powers": Broken(
        _SOFTMAX, "powers without the maximum subtracted, and in float16"
    ),
    "softmax_exp_table": Broken(_SOFTMAX, "exp from a table of 8 bits"),
    "softmax_half_total": Broken(_SOFTMAX, "the sum of powers is added up in float16"),
    "softmax_last_row": Broken(
        _SOFTMAX, "the last row of a tile that is not full is not divided by its sum"
    ),
    # ---- normalisations
    "layer_norm_eps_small": Broken(_LAYER, "eps is 1e-12"),
    "layer_norm_eps_large": Broken(_LAYER, "eps is 1e-3"),
    "layer_norm_bias_tail": Broken(_LAYER, "the last 16 channels get no bias"),
    "layer_norm_unbiased": Broken(_LAYER, "the variance is divided by n - 1"),
    "layer_norm_variance_tail": Broken(_LAYER, "the variance lacks the last 16 elements"),
    "layer_norm_one_pass": Broken(
        _LAYER, "the variance is the mean square minus the square of the mean, in float32"
    ),
    "layer_norm_half_statistics": Broken(_LAYER, "mean and variance are rounded to float16"),
    "layer_norm_half_mean_square": Broken(
        _LAYER, "squares of deviations and their mean are rounded to float16"
    ),
    "layer_norm_first_item": Broken(_LAYER, "all images take the first one's statistics"),
    "layer_norm_last_row": Broken(_LAYER, "the last token takes the statistics of the one before"),
    "group_norm_interleaved": Broken(_GROUP, "groups take every n-th channel"),
    "group_norm_affine": Broken(_GROUP, "all groups take the first one's weight and bias"),
    "group_norm_eps_missing": Broken(_GROUP, "eps is 0"),
    "group_norm_last_block": Broken(_GROUP, "the variance lacks the last 64 squares"),
    "batch_norm_eps_outside": Broken(_BATCH, "eps is added to the deviation, not the variance"),
    "batch_norm_eps_large": Broken(_BATCH, "eps is 1e-3"),
    "batch_norm_last_channel": Broken(
        _BATCH, "the last channel takes the statistics of the one before"
    ),
    "batch_norm_half_factor": Broken(_BATCH, "factor and summand are rounded to float16"),
    "norm_rsqrt_estimate": Broken(
        (*_LAYER, *_GROUP, *_BATCH), "the reciprocal root has 12 bits: no Newton step"
    ),
    # ---- attention
    "attention_scale": Broken(
        _ATTENTION, "scores are divided by d, not its root, where d is no multiple of 64"
    ),
    "attention_mask_tile": Broken(_ATTENTION, "the mask of the last 16 keys is ignored"),
    "attention_no_rescale": Broken(
        _ATTENTION, "sums of earlier tiles are not rescaled when a greater score comes"
    ),
    "attention_key_tail": Broken(_ATTENTION, "keys behind the last whole tile are left out"),
    "attention_half_scores": Broken(_ATTENTION, "scores are kept in float16"),
    "attention_half_weights": Broken(_ATTENTION, "probabilities are kept in float16"),
    "attention_exp_table": Broken(_ATTENTION, "exp from a table of 8 bits"),
    "attention_last_head": Broken(_ATTENTION, "the last head takes the values of the one before"),
    "attention_last_query": Broken(
        _ATTENTION, "the last query of a tile that is not full has the result of the one before"
    ),
    # ---- functions
    "gelu_cubic_constant": Broken(("gelu",), "0.0447 for 0.044715 in the tanh form"),
    "gelu_root_constant": Broken(("gelu",), "0.798 for the root of 2 / pi in the tanh form"),
    "gelu_sigmoid": Broken(("gelu",), "x * sigmoid(1.702 x)"),
    "gelu_cutoff": Broken(("gelu",), "x above 3 and 0 below -3"),
    "gelu_half_cube": Broken(("gelu",), "the cube is kept in float16"),
    "gelu_erf_three_terms": Broken(
        ("gelu",), "the erf form by three terms (Abramowitz and Stegun 7.1.25)"
    ),
    "sigmoid_clamped": Broken(("sigmoid",), "0 below -4 and 1 above 4"),
    "sigmoid_exp_table": Broken(("sigmoid",), "exp from a table of 8 bits"),
    "sigmoid_reciprocal": Broken(("sigmoid",), "the reciprocal has 12 bits: no Newton step"),
    "silu_flush": Broken(("silu",), "0 below -6"),
    "silu_half_sigmoid": Broken(("silu",), "the sigmoid is kept in float16"),
    "silu_exp_table": Broken(("silu",), "exp from a table of 8 bits"),
    "tanh_pade": Broken(("tanh",), "x (27 + x^2) / (27 + 9 x^2)"),
    "hardswish_sixth": Broken(("hardswish",), "0.1667 for 1/6"),
    "hardsigmoid_sixth": Broken(("hardsigmoid",), "0.1667 for 1/6"),
    "relu6_bound": Broken(("hardtanh", "relu6", "clamp"), "the bound is 6 * 127 / 128"),
    "relu_tail": Broken(("relu",), "the last 16 elements stay as they were"),
    "relu_last_item": Broken(
        ("relu",), "beyond four images the last one has the result of the one before"
    ),
    "exp_table": Broken(("exp",), "exp from a table of 8 bits"),
    "erf_three_terms": Broken(("erf",), "three terms (Abramowitz and Stegun 7.1.25)"),
    "sqrt_estimate": Broken(("sqrt",), "12 bits: no Newton step"),
    "rsqrt_estimate": Broken(("rsqrt",), "12 bits: no Newton step"),
    "sin_half_argument": Broken(("sin", "cos"), "the argument is rounded to float16"),
    "add_bf16": Broken(("add",), "the second summand is rounded to bfloat16"),
    "add_tail": Broken(("add",), "the last 16 elements are not added"),
    "add_transposed": Broken(("add",), "a square matrix is broadcast along the wrong axis"),
    "add_bias_first_item": Broken(("add",), "all windows or images take the first one's summand"),
    "mul_first_gate": Broken(("mul",), "all images take the first one's gates"),
    "mul_last_gate": Broken(("mul",), "the last channel takes the gate of the one before"),
    "mul_half": Broken(("mul",), "float32 products have gone through float16"),
    "div_estimate": Broken(("div",), "the reciprocal has 12 bits: no Newton step"),
    # ---- movement and resizing
    "index_last": Broken(_INDEX, "the last index points to the row beside"),
    "cat_order": Broken(("cat",), "of more than two tensors the last two are exchanged"),
    "roll_one_less": Broken(("roll",), "the shift along the last axis is one too small"),
    "pad_repeats": Broken(
        ("constant_pad_nd", "pad"), "what is added at the right repeats the last column"
    ),
    "pad_reflect_edge": Broken(("reflection_pad2d",), "the edge itself is reflected too"),
    "copy_last_column": Broken(
        _COPY, "the last column of a strided copy of no whole tiles is the one before"
    ),
    "resize_align_corners": Broken(_RESIZE, "align_corners is read the wrong way"),
    "resize_half_pixel": Broken(_RESIZE, "coordinates without the half pixel"),
    "resize_cubic_a": Broken(("upsample_bicubic2d",), "the cubic kernel's a is -1/2, not -3/4"),
    # ---- stores
    "half_toward_zero": Broken(ANY, "float16 and bfloat16 results are rounded towards zero"),
    "half_denormals": Broken(ANY, "float16 results below the normal range are 0"),
    "half_saturates": Broken(ANY, "float16 results beyond the range are 65504, not infinite"),
}
