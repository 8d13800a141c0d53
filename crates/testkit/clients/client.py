"""http.client of Python: kept connections, uploads, HEAD, over HTTP and HTTPS. Arguments: plain port, TLS port, CA."""
import http.client
import socket
import ssl
import sys

HOST = "clients.test"
plain, secure, ca = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def exchange(connection, method, path, status, body=None, headers={}, **more):
    connection.request(method, path, body, {"Host": HOST, **headers}, **more)
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status == status, (method, path, answer.status)
    return data


def all_of(connection):
    assert exchange(connection, "GET", "/data.json", 200) == b'{"answer": 42}'
    first = connection.sock
    assert len(exchange(connection, "GET", "/large", 200)) == 1 << 20
    assert exchange(connection, "GET", "/chunked", 200).count(b"\n") == 100
    assert exchange(connection, "HEAD", "/large", 200) == b""
    assert exchange(connection, "GET", "/empty", 204) == b""
    assert exchange(connection, "GET", "/missing", 404) == b"none\n"
    assert exchange(connection, "POST", "/length", 200, b"x" * 300_000) == b"POST 300000"
    pieces = (b"y" * 1000 for _ in range(50))
    assert exchange(connection, "PUT", "/length", 200, pieces, encode_chunked=True) == b"PUT 50000"
    assert exchange(connection, "DELETE", "/length", 200) == b"DELETE 0"
    assert connection.sock is first, "the connection was not kept"


all_of(http.client.HTTPConnection("127.0.0.1", plain, timeout=20))


class Secure(http.client.HTTPSConnection):
    def connect(self):
        raw = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = ssl.create_default_context(cafile=ca).wrap_socket(raw, server_hostname=HOST)


all_of(Secure(HOST, secure, timeout=20))
print("all is well")
