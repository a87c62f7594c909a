"""A made-up W&B server on this machine: it answers with a status, or takes a connection and says nothing."""

import http.server
import threading
import time

HANG = None  # status of a server that never answers


class Server:
    """Serve until it is closed.

    Args:
        statuses: Of the first answers; the last one stands for all that follow. ``HANG``: none within a minute.
    """

    def __init__(self, *statuses):
        self.asked = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                status = statuses[min(len(server.asked), len(statuses) - 1)]
                server.asked.append((self.path, self.headers["Authorization"]))
                if status is HANG:
                    time.sleep(60)
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b'{"data": {}}')

            do_GET = do_POST

            def log_message(self, *args):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads, self._http.block_on_close = True, False
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self):
        """End it."""
        self._http.shutdown()
        self._http.server_close()
