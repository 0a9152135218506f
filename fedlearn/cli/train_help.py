"""The help of `fedlearn train`, which its flags are read out of."""

from fedlearn.cli import own_data
from fedlearn.cli.flags import (
    DATA_HELP,
    DEBUG_HELP,
    PLACES_HELP,
    VARIANTS_HELP,
    wrapped,
)
from fedlearn.names import (
    AGGREGATORS,
    ALGORITHMS,
    CONDITIONS,
    ENCODERS,
    EXECUTORS,
    OPTIMIZERS,
    usages,
)

HELP = f"""\
Usage: fedlearn train [FLAGS]

Trains a model by federated learning and writes the folder of the run: the
model, a table of metrics, and the metrics of each test client.

Examples:
  fedlearn train                           # digits, about a minute
  fedlearn train --rounds=100 --output_dir=runs/demo            # more rounds
  fedlearn train --resume --rounds=200 --output_dir=runs/demo   # and more
  fedlearn train --algorithm=fedprox --proximal=0.01            # FedProx
  fedlearn train --dataset=shakespeare --source=synthetic       # offline
  fedlearn train --data=visits.csv --client=hospital --label=outcome
  fedlearn train --model=my_models:build   # build() in my_models.py
  fedlearn train --compress=eden:2         # 2 bits a number
  fedlearn train --dp_epsilon=8 --dp_clip_norm=0.5   # differential privacy
  fedlearn train --aggregator=krum:2       # two may be malicious

Data and model, with defaults after the = where they aren't in capitals:
  --dataset=digits    What to train on; fedlearn datasets lists what there is.
{PLACES_HELP}{VARIANTS_HELP}  --model=MODEL
      A model of fl.models, such as digits_cnn or logistic_regression; or a
      .keras file; or module:function, a function that returns a model. By
      default one that suits the data set.

Data of your own:
{DATA_HELP}{own_data.HELP}
Algorithm:
  --algorithm=fedavg
      {wrapped("With its numbers, if any: " + usages(ALGORITHMS))}
  --rounds=50         How many rounds, counted from the beginning of the run.
  --clients_per_round=N
      How many clients take part in a round, drawn at random. By default 10,
      or all if there are fewer. Of fedbuff, how many the server waits for.
  --proximal=X        fedprox: mu, the pull towards the server's model, or 0.1.
  --personal=LAYERS   fedper, fedrep, lgfedavg, fedrecon: layers that stay at
                      each client, as in out,head.

On a simulated clock:
  --conditions=CONDITIONS
      Who is there at which hour, how long clients take, and who drops out.
      {wrapped(usages(CONDITIONS))}
      HIGH and LOW are the shares by night and by day. By default everyone is
      always there, and in time.

At the clients:
  --batch_size=N      Examples a step. By default what is usual for the data.
  --epochs=5          Passes of a client over its examples in a round.
  --client_optimizer=NAME
      {wrapped("One of " + ", ".join(OPTIMIZERS))}
      By default sgd, or what a compiled model comes with.
  --client_learning_rate=X
      Its learning rate. By default, for sgd, what is usual for the data set,
      such as 0.1; for others Keras's own.
  --statistics=average
      What becomes of the statistics of layers such as BatchNormalization:
      average, local or frozen.

On the wire:
  --compress=CHAIN
      How clients' updates are compressed, several joined with +, such as
      eden:2 or rotation+uniform:4+bzip2. By default they aren't.
      {wrapped(usages(ENCODERS))}
  --error_feedback
      A client adds to an update what earlier messages left out: for topk,
      sign and powersgd, where clients come back. What is unbiased (mask,
      qsgd, terngrad) diverges with it.

At the server:
  --aggregator=mean
      What the server makes of the updates, with its numbers.
      {wrapped(usages(AGGREGATORS))}
  --server_optimizer=NAME
      The same choice as at the clients. By default sgd; fedavgm, fedadam,
      fedyogi and fedadagrad are server optimizers.
  --server_learning_rate=X
      Its learning rate. By default the algorithm's own, or 1 for sgd and
      Keras's own for others.

Differential privacy:
  --dp_epsilon=X
      Train with differential privacy for clients: clip updates, add the least
      noise with which all rounds keep to this epsilon, and let each client
      take part by its own coin.
  --dp_delta=X        The delta of the guarantee. By default clients**-1.1.
  --dp_clip_norm=X
      The largest L2 norm of an update. By default one that follows the median
      of the updates' norms.
  --dp_accountant=rdp
      What finds the noise: rdp, which epsilon by round is logged with; or
      pld, less noise, after a minute.
  --dp_private_metrics
      Leave out the metrics of clients' training, which are exact.
  --dp_secure_noise   Draw noise from the system's entropy, not from the seed.

The run:
  --output_dir=FOLDER
      By default runs/DATASET-ALGORITHM, with a number if that is taken.
  --resume
      Go on with the run in --output_dir, exactly as if it had never stopped;
      flags that aren't given are as they were. Starts a run if there is none.
  --validation_freq=1
      Evaluate on the test clients after every so many rounds; 0: only at the
      end.
  --seed=0            Of the initial weights and all that is random.
  --executor=auto
      {wrapped("How clients are run: " + ", ".join(EXECUTORS))}
  --verbose=1         1: a progress bar; 2: a line a round; 0: neither.
{DEBUG_HELP}"""
