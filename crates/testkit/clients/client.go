// net/http of Go over HTTP/1.1, HTTPS and HTTP/2, many requests at once. Arguments: plain port, TLS port, CA.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const host = "clients.test"

func client(port, ca string, http2 bool) *http.Client {
	pem, err := os.ReadFile(ca)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, "127.0.0.1:"+port)
	}
	transport := &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2:   http2,
		MaxIdleConnsPerHost: 10,
	}
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func ask(c *http.Client, method, url string, body io.Reader, major int) []byte {
	request, err := http.NewRequest(method, url, body)
	check(err)
	answer, err := c.Do(request)
	check(err)
	data, err := io.ReadAll(answer.Body)
	check(err)
	check(answer.Body.Close())
	if answer.ProtoMajor != major {
		fail("%s %s came over %s", method, url, answer.Proto)
	}
	return data
}

func all(c *http.Client, base string, major int) {
	var waiting sync.WaitGroup
	for n := 0; n < 100; n++ {
		waiting.Add(1)
		go func(n int) {
			defer waiting.Done()
			path := fmt.Sprintf("/number/%d", n)
			if body := ask(c, "GET", base+path, nil, major); string(body) != path {
				fail("%q instead of %q", body, path)
			}
		}(n)
	}
	waiting.Wait()
	if body := ask(c, "GET", base+"/large", nil, major); len(body) != 1<<20 {
		fail("%d bytes of the large body", len(body))
	}
	if body := ask(c, "GET", base+"/chunked", nil, major); bytes.Count(body, []byte("\n")) != 100 {
		fail("%d bytes of the chunked body", len(body))
	}
	sent := bytes.Repeat([]byte("g"), 600000)
	if body := ask(c, "POST", base+"/echo", bytes.NewReader(sent), major); !bytes.Equal(body, sent) {
		fail("%d bytes came back", len(body))
	}
	// A reader of unknown length goes in chunks, or in frames.
	if body := ask(c, "PUT", base+"/length", io.MultiReader(bytes.NewReader(sent)), major); string(body) != "PUT 600000" {
		fail("%q", body)
	}
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

func main() {
	plain, secure, ca := os.Args[1], os.Args[2], os.Args[3]
	all(client(plain, ca, false), "http://"+host+":"+plain, 1)
	all(client(secure, ca, true), "https://"+host+":"+secure, 2)
	fmt.Println("all is well")
}
