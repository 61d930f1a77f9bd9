"""Running the command line as a user would, and steering what runs."""

import json
import os
import subprocess
import sys
import time


def rtpipe(*arguments, env=None, timeout=120):
    """(exit code, stdout, stderr) of one command."""
    done = subprocess.run(
        [sys.executable, "-m", "rtpipe", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class Running:
    """A pipeline in the background, its runtime directory its own so that tests do not see each other's."""

    def __init__(self, directory, *arguments, env=None):
        self.env = {**os.environ, **(env or {}), "XDG_RUNTIME_DIR": str(directory)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rtpipe", "run", *map(str, arguments), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
        )

    def control(self, *words):
        """(exit code, text) of ``rtpipe control``."""
        code, out, err = rtpipe("control", *words, env=self.env)
        return code, (out or err).strip()

    def workers(self, ready=lambda workers: True, timeout=60):
        """Each worker's last report, once all have reported and ``ready`` says so."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the run ended: {self.process.communicate()}")
            code, text = self.control("status")
            if code == 0:
                workers = json.loads(text)["workers"]
                if all(w and w["pid"] for w in workers.values()) and ready(workers):
                    return workers
            time.sleep(0.1)
        raise AssertionError("the pipeline did not come to the state that was waited for")

    def end(self, timeout=90):
        """(exit code, the run's JSON, stderr) after its own end."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, json.loads(out) if out.strip() else {}, err

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
