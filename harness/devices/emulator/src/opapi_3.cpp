// The third translation unit of libopapi: kernels beside ATen's.
#include "kernels_attention.cpp"
#include "kernels_convolution.cpp"
#include "kernels_cube.cpp"
#include "kernels_elementwise.cpp"
#include "kernels_norm.cpp"
#include "kernels_sums.cpp"
