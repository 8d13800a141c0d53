"""httpx with HTTP/2: many requests at once on one connection. Arguments: plain port, TLS port, CA."""
import asyncio
import ssl
import sys

import httpx

HOST = "clients.test"
secure, ca = int(sys.argv[2]), sys.argv[3]
url = f"https://127.0.0.1:{secure}"


async def main():
    context = ssl.create_default_context(cafile=ca)
    async with httpx.AsyncClient(http2=True, http1=False, verify=context, timeout=20) as client:

        def ask(method, path, **more):
            extensions = {"sni_hostname": HOST}
            return client.request(method, url + path, headers={"Host": HOST}, extensions=extensions, **more)

        answers = await asyncio.gather(*(ask("GET", f"/number/{n}") for n in range(200)))
        for number, answer in enumerate(answers):
            assert answer.http_version == "HTTP/2", answer.http_version
            assert answer.text == f"/number/{number}", answer.text
        large = await ask("GET", "/large")
        assert len(large.content) == 1 << 20
        echoed = await ask("POST", "/echo", content=b"z" * 500_000)
        assert echoed.content == b"z" * 500_000
        assert (await ask("HEAD", "/large")).status_code == 200
        assert (await ask("GET", "/missing")).status_code == 404


asyncio.run(main())
print("all is well")
