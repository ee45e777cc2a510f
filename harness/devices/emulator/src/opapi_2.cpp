// The other translation unit of libopapi: see opapi_1.cpp.
#include "ops_binary.cpp"
#include "ops_index_sort.cpp"
#include "ops_legacy.cpp"
#include "ops_movement.cpp"
#include "ops_random_loss_backward.cpp"
#include "ops_recurrent.cpp"
#include "ops_unary.cpp"
