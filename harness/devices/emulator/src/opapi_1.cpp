// One of the two translation units of libopapi.  ATen's headers take longer to compile than all
// operators together, so the sources are put together here and two units compile side by side.
#include "contract.cpp"
#include "cube.cpp"
#include "faults.cpp"
#include "handles.cpp"
#include "ops_attention.cpp"
#include "ops_conv_matmul.cpp"
#include "ops_norm_pool.cpp"
