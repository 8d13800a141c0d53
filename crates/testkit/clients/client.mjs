// Node's fetch (undici), http and http2. Arguments: plain port, TLS port, CA (which Node reads from its environment).
import assert from 'node:assert';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import fs from 'node:fs';

const [plain, secure, ca] = process.argv.slice(2);
const host = 'clients.test';

function ask(module, options, body) {
  return new Promise((resolve, reject) => {
    const request = module.request({...options, timeout: 20000}, (answer) => {
      const pieces = [];
      answer.on('data', (piece) => pieces.push(piece));
      answer.on('end', () => resolve({status: answer.statusCode, body: Buffer.concat(pieces)}));
      answer.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function overHttp1(module, port) {
  const agent = new module.Agent({keepAlive: true, maxSockets: 4, ca: fs.readFileSync(ca)});
  const base = {host: '127.0.0.1', port, servername: host, headers: {host}, agent};
  const many = await Promise.all([...Array(100).keys()].map((n) => ask(module, {...base, path: `/number/${n}`})));
  many.forEach((answer, n) => assert.equal(answer.body.toString(), `/number/${n}`));
  assert.equal((await ask(module, {...base, path: '/large'})).body.length, 1 << 20);
  const posted = await ask(module, {...base, path: '/length', method: 'POST'}, Buffer.alloc(400000));
  assert.equal(posted.body.toString(), 'POST 400000');
  assert.equal((await ask(module, {...base, path: '/empty'})).status, 204);
  agent.destroy();
}

async function overHttp2() {
  const session = http2.connect(`https://127.0.0.1:${secure}`, {servername: host, ca: fs.readFileSync(ca)});
  const get = (path, method = 'GET', body) => new Promise((resolve, reject) => {
    const stream = session.request({':path': path, ':method': method, ':authority': host});
    const pieces = [];
    let status;
    stream.on('response', (headers) => { status = headers[':status']; });
    stream.on('data', (piece) => pieces.push(piece));
    stream.on('end', () => resolve({status, body: Buffer.concat(pieces)}));
    stream.on('error', reject);
    stream.end(body);
  });
  session.on('error', (error) => { throw error; });
  const many = await Promise.all([...Array(100).keys()].map((n) => get(`/number/${n}`)));
  many.forEach((answer, n) => assert.equal(answer.body.toString(), `/number/${n}`));
  assert.equal((await get('/large')).body.length, 1 << 20);
  assert.equal((await get('/echo', 'POST', Buffer.alloc(300000, 'q'))).body.length, 300000);
  assert.equal((await get('/missing')).status, 404);
  session.close();
}

async function byFetch() {
  // `fetch` takes no other name than the address that it connects to: any host's answer will do.
  const answer = await fetch(`http://127.0.0.1:${plain}/data.json`);
  assert.equal(answer.status, 404, 'no route is for an address');
  await answer.arrayBuffer();
}

await overHttp1(http, plain);
await overHttp1(https, secure);
await overHttp2();
await byFetch();
console.log('all is well');
