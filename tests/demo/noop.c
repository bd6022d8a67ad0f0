/* The floor of every process: a static program that does nothing. `make demo` measures beside it. */
int main(void) { return 0; }
