"""Cost of the training loop: steps/second of run.py relative to a bare PyTorch loop.

    python -m benchmarks.training_loop [--pairs 7] [--epochs 1]

Both train the default network on the default data with equally many threads, in turns in one process; the
median of the ratios per pair is printed. run.py logs to W&B (offline) and writes its record; validation, test
and start-up are left out on both sides.
"""

import argparse
import statistics
import tempfile
import time

import torch

from ablations.runs.records import RunDirectory
from experiments import run
from experiments.configuration import RunConfiguration
from experiments.planning import compose_runs, hydra_configuration
from lightning_modules.assembly import make_data_and_module
from lightning_modules.schedules import make_scheduler


def framework_speed(configuration: RunConfiguration) -> float:
    """Training steps/second in the record of a run."""
    directory = RunDirectory(configuration.results_dir, configuration.run_id)
    with directory.lock() as held:
        assert held
        record = run.train(configuration, directory)
    assert record["status"] == "completed", record["error"]
    return record["steps_per_second"]


def bare_speed(configuration: RunConfiguration) -> float:
    """Training steps/second of the shortest loop with the same network and batches."""
    torch.set_num_threads(configuration.resolved["trainer"]["threads"])
    data, module = make_data_and_module(configuration.resolved)
    data.prepare_data()
    loader = data.train_dataloader()
    epochs = configuration.resolved["recipe"]["epochs"]
    network = module.network.train()
    optimizer = module._optimizer(network.parameters())
    scheduler = make_scheduler(module._scheduler, optimizer, total_steps=epochs * len(loader))
    loss_function = module.loss
    seconds = 0.0
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        start = time.perf_counter()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = loss_function(network(images.to(memory_format=module.memory_format)), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
        seconds += time.perf_counter() - start
    return epochs * len(loader) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="how often the two take turns")
    parser.add_argument("--epochs", type=int, default=1, help="of each turn")
    arguments = parser.parse_args()
    ratios = []
    for pair in range(arguments.pairs):
        with tempfile.TemporaryDirectory() as folder, hydra_configuration():
            (configuration,) = compose_runs(
                [f"results_dir={folder}", f"recipe.epochs={arguments.epochs}", f"seed={pair}"]
            )
            # The order alternates, because the machine's speed drifts.
            if pair % 2:
                framework, bare = framework_speed(configuration), bare_speed(configuration)
            else:
                bare, framework = bare_speed(configuration), framework_speed(configuration)
        ratios.append(framework / bare)
        print(
            f"pair {pair + 1}: run.py {framework:.2f} steps/s, bare loop {bare:.2f} steps/s, "
            f"ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
