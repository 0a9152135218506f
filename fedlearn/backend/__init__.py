"""The few functions that differ per Keras backend.

`keras.ops` covers nearly everything; what is here is what it doesn't: a
compiler, gradients, a loop with any carry, and a map over a leading axis. The
module of the backend that Keras runs on (`KERAS_BACKEND`) is chosen when this
package is first imported.

Every module has the same names:

* `jit(fn, free=(), loose=())`: `fn` compiled. `fn` takes and returns pytrees
  of arrays. The arguments whose positions are in `free` have leading axes
  that differ from call to call (a client's examples); those in `loose` have
  only such axes (tables of positions).
* `value_and_grad(fn)`: `fn(params, *args) -> (loss, aux)` made into
  `(params, *args) -> ((loss, aux), grads)`.
* `loop(num_steps, body, carry)`: `carry = body(step, carry)`, `num_steps`
  times, inside `jit`.
* `vmap(fn)`: `fn` over the leading axis of all its arguments.
* `where_rows(mask, new, old)`: of the arrays of two pytrees, rows of the first
  where a mask over the first axis is true, else of the second.
* `random_uniform(seed, shape)`: float32 numbers in [0, 1), for an int32 seed of
  shape `(2,)`, also inside `vmap`, where they are what they are outside. They
  differ from backend to backend: see `fedlearn.threefry` for those that don't.
* `random_dither(seed, shape)`: as `random_uniform`, but multiples of 2**-16,
  which take half as many random bits.
* `sum_of_squares(array)`: of a float array, in one pass where it matters.
* `compile_clock.clock.seconds`: how long tracing and compiling took so far.
* `float64()`: a context in which there is float64, which JAX lacks otherwise.
* `num_threads()`: with how many threads it was told to compute; None if it
  decides by the machine.
* `to_numpy(tree)`: the arrays of a pytree on the host.
* `stack(trees)`, `rows(tree, count)`: pytrees put together on a leading axis,
  and so many of them taken apart again, as arrays that are cheap to stack.
* `LOOPS_IN_GRAPH`: whether a client's loop over batches belongs inside the
  compiled function. On TensorFlow it does: a graph takes dynamic shapes. On
  JAX a batch of another length is another compilation, and XLA on CPU runs a
  convolution's filter gradient 20 to 100 times slower inside a loop.
* `ASSIGNS_IN_PLACE`: whether Keras's `fit` keeps what a layer assigns to its
  own trainable weight. On JAX it is lost: only what isn't trained comes back
  from a call.
"""

import importlib

import keras

_MODULES = ("tensorflow", "jax")

name: str = keras.backend.backend()
if name not in _MODULES:
    raise RuntimeError(
        f"Keras runs on the backend {name!r}, and fedlearn runs on "
        f"{' and '.join(_MODULES)} only. Set the environment variable "
        f"KERAS_BACKEND={_MODULES[0]} before Keras is imported."
    )

_module = importlib.import_module(f"fedlearn.backend.{name}")

jit = _module.jit
value_and_grad = _module.value_and_grad
loop = _module.loop
vmap = _module.vmap
where_rows = _module.where_rows
random_uniform = _module.random_uniform
random_dither = _module.random_dither
sum_of_squares = _module.sum_of_squares
float64 = _module.float64
num_threads = _module.num_threads
to_numpy = _module.to_numpy
stack = _module.stack
rows = _module.rows
LOOPS_IN_GRAPH: bool = _module.LOOPS_IN_GRAPH
ASSIGNS_IN_PLACE: bool = _module.ASSIGNS_IN_PLACE
