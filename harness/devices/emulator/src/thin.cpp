// The body of the libraries that only have to exist: torch_npu asks for them by name and finds
// what it looks for in the library that they link against.
