//go:build unix

package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"machineid/shared/wire"
)

// said is one answer as bytes tell it.
type said struct {
	interim int // answers of 1xx before it
	status  int
	header  http.Header
	body    map[string]any
}

// talk sends bytes on a connection of their own and returns all that is said to them until the connection ends. cut: no more will come.
func talk(addr, raw string, cut bool) (list []said, err error) {
	conn, err := net.DialTimeout("tcp", addr, callTime)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(callTime))
	sent := make(chan struct{})
	defer func() { <-sent }()
	go func() {
		defer close(sent)
		_, _ = io.WriteString(conn, raw) // the server may end the connection before
		if half, ok := conn.(*net.TCPConn); ok && cut {
			_ = half.CloseWrite()
		}
	}()
	r := bufio.NewReader(conn)
	method, _, _ := strings.Cut(raw, " ")
	for interim := 0; ; {
		if _, err := r.Peek(1); errors.Is(err, io.EOF) {
			return list, nil
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return list, err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return list, err
		}
		if resp.StatusCode == http.StatusContinue {
			interim++
			continue
		}
		one := said{interim: interim, status: resp.StatusCode, header: resp.Header}
		if method != http.MethodHead && resp.StatusCode != http.StatusNotModified {
			if err := json.Unmarshal(text, &one.body); err != nil {
				return list, fmt.Errorf("HTTP %d is no JSON object: %q", resp.StatusCode, text)
			}
		}
		if resp.Close {
			one.header.Set("Connection", "close")
		}
		list, method, interim = append(list, one), "", 0
	}
}

// alike is what both tiers must say in the same words.
func (s *said) alike() said {
	header := maps.Clone(s.header)
	for _, own := range []string{"Date", "X-Request-Id", "X-Cache"} {
		header.Del(own)
	}
	body := maps.Clone(s.body)
	delete(body, "request_id")
	delete(body, "propagation") // another index each time
	return said{s.interim, s.status, header, body}
}

// text is what a body says for programs, but for an id that was given and is right.
func (s *said) text() string {
	var words []string
	for _, name := range []string{"code", "error", "param"} {
		if word, ok := s.body[name].(string); ok {
			words = append(words, word)
		}
	}
	if id, ok := s.body["deviceId"].(string); ok && id != "d1" {
		words = append(words, id)
	}
	return strings.Join(words, " ")
}

// What becomes of a connection.
const (
	kept   = "kept"   // a request that follows is answered
	closed = "closed" // nothing that follows is
	cut    = "cut"    // closed; the client says that it is done
	silent = "silent" // closed; the client sends nothing more and waits, and is not told 408
)

// httpRow is bytes, the status of the answer, what becomes of the connection, and headers that the answer has ("" for none of that name), by name and value in turn.
type httpRow struct {
	raw     string
	status  int
	end     string
	headers []string
	says    string // the code or error of its body, or what is wrong with which parameter; "" is not looked at
}

const (
	onValidate = "POST /api/v1/devices/validate HTTP/1.1\r\n"
	onUsage    = "GET /api/v1/usage HTTP/1.1\r\n"
	host       = "Host: a\r\n"
	agentKey   = "x-org-key: $AGENT\r\n"
	adminKey   = "x-org-key: $ADMIN\r\n"
	theDevice  = `{"deviceId":"d1"}`
	length     = "Content-Length: 17\r\n"
	good       = onValidate + host + agentKey + length + "\r\n" + theDevice
	expects    = "Expect: 100-continue\r\n"
	chunks     = "Transfer-Encoding: chunked\r\n"
	operates   = "Authorization: Bearer $TOKEN\r\nX-MachineID-Org: $ORG\r\n"
	document   = "GET /openapi.json HTTP/1.1\r\n" + host
)

// httpRows is HTTP as RFC 9110 and 9112 have it, and docs/api.md where they leave a choice.
func httpRows() map[string]httpRow {
	usage := func(headers string) string { return onUsage + host + adminKey + headers + "\r\n" }
	validate := func(headers string) string {
		return onValidate + host + agentKey + headers + length + "\r\n" + theDevice
	}
	version := func(v string) string { return strings.Replace(good, "HTTP/1.1", v, 1) }
	hosted := func(h string) string { return strings.Replace(usage(""), host, h, 1) }
	target := func(t string) string { return strings.Replace(usage(""), "/api/v1/usage", t, 1) }
	method := func(m string) string { return strings.Replace(good, "POST", m, 1) }
	chunked := func(body string) string { return onValidate + host + agentKey + chunks + "\r\n" + body }
	waits := func(line, headers string) string { return line + host + expects + headers + length + "\r\n" }
	batch := func(headers string) string {
		return "POST /api/v1/devices/validate_batch HTTP/1.1\r\n" + host + headers + "Content-Length: 23\r\n\r\n" + `{"deviceIds":["d1",""]}`
	}
	revoke := func(headers string) string {
		return "POST /api/v1/devices/revoke HTTP/1.1\r\n" + host + adminKey + headers + length + "\r\n" + `{"deviceId":"d0"}` + " "
	}
	return map[string]httpRow{
		// Versions (9112, 2.3; 9110, 15.6.6).
		"HTTP/1.1":                {good, 200, kept, []string{"Connection", ""}, "ALLOW"},
		"HTTP/1.0":                {version("HTTP/1.0"), 200, closed, []string{"Connection", "close"}, ""},
		"HTTP/1.0, kept alive":    {strings.Replace(version("HTTP/1.0"), host, host+"Connection: Keep-Alive\r\n", 1), 200, kept, []string{"Connection", "keep-alive"}, ""},
		"HTTP/1.0 without Host":   {strings.Replace(version("HTTP/1.0"), host, "", 1), 200, closed, nil, ""},
		"HTTP/1.2":                {version("HTTP/1.2"), 200, kept, []string{"Connection", ""}, "ALLOW"},
		"HTTP/1.9":                {version("HTTP/1.9"), 200, kept, nil, "ALLOW"},
		"HTTP/1.2 that closes":    {strings.Replace(version("HTTP/1.2"), host, host+"Connection: close\r\n", 1), 200, closed, []string{"Connection", "close"}, "ALLOW"},
		"HTTP/1.2 without Host":   {strings.Replace(version("HTTP/1.2"), host, "", 1), 400, closed, nil, ""},
		"HTTP/1.2, chunked":       {strings.Replace(chunked("11\r\n"+theDevice+"\r\n0\r\n\r\n"), "HTTP/1.1", "HTTP/1.2", 1), 501, closed, nil, "INVALID_DEVICE_ID not_implemented"},
		"HTTP/1.2, both lengths":  {strings.Replace(validate(chunks), "HTTP/1.1", "HTTP/1.2", 1), 400, closed, nil, ""},
		"HTTP/2.0":                {version("HTTP/2.0"), 505, closed, nil, ""},
		"HTTP/2's preface":        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505, closed, nil, ""},
		"HTTP/3.0":                {version("HTTP/3.0"), 505, closed, nil, ""},
		"HTTP/0.9":                {"GET /api/v1/usage\r\n", 400, closed, nil, ""},
		"HTTP/0.9 by name":        {version("HTTP/0.9"), 505, closed, nil, ""},
		"HTTP/2.0, chunked":       {strings.Replace(chunked("11\r\n"+theDevice+"\r\n0\r\n\r\n"), "HTTP/1.1", "HTTP/2.0", 1), 505, closed, nil, ""},
		"version without a minor": {version("HTTP/1"), 400, closed, nil, ""},
		"version of two digits":   {version("HTTP/1.10"), 400, closed, nil, ""},
		"version in small":        {version("http/1.1"), 400, closed, nil, ""},
		"another protocol":        {version("RTSP/1.0"), 400, closed, nil, ""},
		"no HTTP":                 {"hello\r\n\r\n", 400, closed, nil, ""},
		"binary":                  {"\x00\x01\x02\xff\xfe\r\n\r\n", 400, closed, nil, ""},
		"TLS":                     {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x5a", 500), 400, cut, nil, ""},
		"TLS, that waits":         {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x5a", 500), 400, silent, nil, ""},
		"NULs, that wait":         {"\r\n" + strings.Repeat("\x00", 20), 400, silent, nil, ""},
		"LF only, that waits":     {strings.ReplaceAll(good, "\r\n", "\n"), 400, silent, nil, "INVALID_DEVICE_ID bad_request"},
		"bare LF, that waits":     {onValidate + host + "x-a: b\n", 400, silent, nil, "INVALID_DEVICE_ID bad_request"},
		"two spaces":              {strings.Replace(good, "POST ", "POST  ", 1), 400, closed, nil, ""},
		"no target":               {"GET HTTP/1.1\r\n" + host + "\r\n", 400, closed, nil, ""},
		"empty lines first":       {"\r\n\r\n" + good, 200, kept, nil, ""},

		// Host (9112, 3.2) and the target's form (9112, 3.2.1 to 3.2.4).
		"no Host":                       {hosted(""), 400, closed, nil, ""},
		"two Hosts":                     {hosted(host + host), 400, closed, nil, ""},
		"an empty Host":                 {hosted("Host:\r\n"), 400, closed, nil, ""},
		"a Host of a port":              {hosted("Host: :80\r\n"), 400, closed, nil, ""},
		"a Host with user information":  {hosted("Host: u:p@a\r\n"), 400, closed, nil, ""},
		"a Host with a path":            {hosted("Host: a/b\r\n"), 400, closed, nil, ""},
		"a Host with a space":           {hosted("Host: a b\r\n"), 400, closed, nil, ""},
		"a Host with a port of letters": {hosted("Host: a:b\r\n"), 400, closed, nil, ""},
		"a Host of IPv6":                {hosted("Host: [::1]:8080\r\n"), 200, kept, nil, ""},
		"an absolute target":            {target("http://other.example/api/v1/usage"), 200, kept, nil, ""},
		"an absolute target, no Host":   {strings.Replace(target("http://a/api/v1/usage"), host, "", 1), 400, closed, nil, ""},
		"a target with a user":          {target("http://u@a/api/v1/usage"), 400, closed, nil, ""},
		"a target with an empty host":   {target("http:///api/v1/usage"), 400, closed, nil, ""},
		"a target that is a name":       {target("api/v1/usage"), 400, closed, nil, ""},
		"GET *":                         {target("*"), 400, closed, nil, ""},
		"OPTIONS *":                     {"OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 404, kept, nil, ""},
		"CONNECT":                       {"CONNECT a:80 HTTP/1.1\r\n" + host + "\r\n", 404, kept, nil, ""},

		// Methods (9110, 9.1, 9.3.2, 15.5.6).
		"HEAD":                    {strings.Replace(usage(""), "GET", "HEAD", 1), 200, kept, []string{"Content-Type", "application/json"}, ""},
		"HEAD of validate":        {"HEAD /api/v1/devices/validate?deviceId=d1 HTTP/1.1\r\n" + host + agentKey + "\r\n", 200, kept, nil, ""},
		"HEAD of a POST":          {"HEAD /api/v1/devices/revoke HTTP/1.1\r\n" + host + "\r\n", 405, kept, []string{"Allow", "POST"}, ""},
		"HEAD of nothing":         {"HEAD /nothing HTTP/1.1\r\n" + host + "\r\n", 404, kept, nil, ""},
		"HEAD of the document":    {strings.Replace(document, "GET", "HEAD", 1) + "\r\n", 200, kept, nil, ""},
		"OPTIONS":                 {"OPTIONS /api/v1/usage HTTP/1.1\r\n" + host + "\r\n", 405, kept, []string{"Allow", "GET, HEAD"}, ""},
		"OPTIONS of validate":     {method("OPTIONS"), 405, kept, []string{"Allow", "GET, HEAD, POST"}, ""},
		"TRACE":                   {method("TRACE"), 405, kept, []string{"Allow", "GET, HEAD, POST"}, ""},
		"unknown method":          {method("BREW"), 405, kept, []string{"Allow", "GET, HEAD, POST"}, ""},
		"method in small letters": {method("post"), 405, kept, nil, ""},
		"method that is none":     {method("P(ST"), 400, closed, nil, ""},
		"DELETE of the document":  {strings.Replace(document, "GET", "DELETE", 1) + "\r\n", 405, kept, []string{"Allow", "GET, HEAD"}, ""},
		"POST to the page":        {"POST /recover HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", 405, kept, []string{"Allow", "GET, HEAD"}, ""},
		"another path":            {strings.Replace(good, "/api/v1/", "/api/v2/", 1), 404, kept, nil, ""},
		"an encoded path":         {strings.Replace(good, "/devices/", "/%64evices/", 1), 404, kept, nil, ""},
		"a doubled slash":         {strings.Replace(good, "/devices/", "//devices//", 1), 404, kept, nil, ""},

		// Fields (9112, 5.1 and 5.2; 9110, 5.5).
		"no colon":                 {validate("x\r\n"), 400, closed, nil, ""},
		"folded":                   {validate("X-A: b\r\n c\r\n"), 400, closed, nil, ""},
		"folded, the first":        {onValidate + " x: y\r\n" + host + "\r\n", 400, closed, nil, ""},
		"space before the colon":   {validate("X-A : b\r\n"), 400, closed, nil, ""},
		"tab before the colon":     {validate("X-A\t: b\r\n"), 400, closed, nil, ""},
		"control character":        {validate("x-a: \x01\r\n"), 400, closed, nil, ""},
		"NUL":                      {validate("x-a: \x00\r\n"), 400, closed, nil, ""},
		"bare CR":                  {validate("x-a: b\rc\r\n"), 400, closed, nil, ""},
		"bare LF":                  {validate("x-a: b\n"), 400, closed, nil, ""},
		"LF only":                  {strings.ReplaceAll(good, "\r\n", "\n"), 400, closed, nil, ""},
		"no space after the colon": {validate("X-A:b\r\n"), 200, kept, nil, ""},
		"an empty value":           {validate("X-A:\r\n"), 200, kept, nil, ""},
		"key twice":                {validate("X-Org-Key: a\r\n"), 400, closed, nil, ""},
		"compressed":               {validate("Content-Encoding: gzip\r\n"), 400, closed, nil, ""},
		"head beyond the limit":    {validate("x-a: " + strings.Repeat("a", 20_000) + "\r\n"), 431, closed, nil, ""},
		"a thousand headers":       {validate(strings.Repeat("a: b\r\n", 2000)), 431, closed, nil, ""},
		"target beyond the limit":  {target("/api/v1/usage?a=" + strings.Repeat("a", 20_000)), 414, closed, nil, ""},
		"method beyond the limit":  {strings.Repeat("A", 20_000) + " / HTTP/1.1\r\n\r\n", 431, closed, nil, ""},
		"a long target":            {target("/api/v1/usage?a=" + strings.Repeat("a", 7000)), 200, kept, nil, ""},
		"Connection: close":        {usage("Connection: close\r\n"), 200, closed, []string{"Connection", "close"}, ""},
		"close in a list":          {usage("Connection: TE, Close\r\n"), 200, closed, []string{"Connection", "close"}, ""},
		"close on a second line":   {usage("Connection: TE\r\nConnection: close\r\n"), 200, closed, []string{"Connection", "close"}, ""},
		"close on a first line":    {usage("Connection: close\r\nConnection: TE\r\n"), 200, closed, []string{"Connection", "close"}, ""},
		"an upgrade":               {usage("Connection: upgrade\r\nUpgrade: h2c\r\n"), 200, kept, []string{"Upgrade", ""}, ""},

		// Framing (9112, 6 and 7).
		"both lengths":               {validate(chunks), 400, closed, nil, ""},
		"length twice":               {validate(length), 400, closed, nil, ""},
		"a list of lengths":          {strings.Replace(good, ": 17", ": 17, 17", 1), 400, closed, nil, ""},
		"length in words":            {strings.Replace(good, ": 17", ": ten", 1), 400, closed, nil, ""},
		"length below zero":          {strings.Replace(good, ": 17", ": -1", 1), 400, closed, nil, ""},
		"length signed":              {strings.Replace(good, ": 17", ": +17", 1), 400, closed, nil, ""},
		"length of a gigabyte":       {strings.Replace(good, ": 17", ": 1073741824", 1), 413, closed, nil, ""},
		"length of 2^63":             {strings.Replace(good, ": 17", ": 9223372036854775808", 1), 413, closed, nil, "INVALID_DEVICE_ID"},
		"length of 7,000 digits":     {strings.Replace(good, ": 17", ": "+strings.Repeat("9", 7000), 1), 413, closed, nil, "INVALID_DEVICE_ID"},
		"length with 7,000 zeros":    {strings.Replace(good, ": 17", ": "+strings.Repeat("0", 7000)+"17", 1), 200, kept, nil, "ALLOW"},
		"such a length, no method":   {"PUT /api/v1/devices/revoke HTTP/1.1\r\n" + host + "Content-Length: 9223372036854775808\r\n\r\n", 405, closed, []string{"Allow", "POST"}, "method_not_allowed"},
		"chunk of 2^64":              {chunked("10000000000000000\r\n" + theDevice + "\r\n0\r\n\r\n"), 413, closed, nil, "INVALID_DEVICE_ID"},
		"chunked":                    {chunked("11;a=b\r\n" + theDevice + "\r\n0\r\n\r\n"), 200, kept, nil, ""},
		"chunked in capitals":        {strings.Replace(chunked("11\r\n"+theDevice+"\r\n0\r\n\r\n"), "chunked", "CHUNKED", 1), 200, kept, nil, ""},
		"encoding twice":             {strings.Replace(chunked("0\r\n\r\n"), chunks, chunks+chunks, 1), 400, closed, nil, ""},
		"another, then chunked":      {strings.Replace(chunked("0\r\n\r\n"), ": chunked", ": gzip, chunked", 1), 501, closed, nil, ""},
		"chunked, then another":      {strings.Replace(chunked("0\r\n\r\n"), ": chunked", ": chunked, gzip", 1), 400, closed, nil, ""},
		"nothing, then chunked":      {strings.Replace(chunked("0\r\n\r\n"), ": chunked", ": , chunked", 1), 400, closed, nil, ""},
		"chunked, then nothing":      {strings.Replace(chunked("0\r\n\r\n"), ": chunked", ": chunked,", 1), 400, closed, nil, ""},
		"another over two lines":     {strings.Replace(chunked("0\r\n\r\n"), chunks, "Transfer-Encoding: gzip\r\n"+chunks, 1), 400, closed, nil, ""},
		"identity":                   {strings.Replace(chunked("0\r\n\r\n"), ": chunked", ": identity", 1), 400, closed, nil, ""},
		"HTTP/1.0, chunked":          {strings.Replace(chunked("0\r\n\r\n"), "HTTP/1.1", "HTTP/1.0", 1), 400, closed, nil, ""},
		"bad chunk":                  {chunked("zz\r\n" + theDevice + "\r\n0\r\n\r\n"), 400, closed, nil, ""},
		"chunk without end":          {chunked("10\r\n{"), 400, cut, nil, ""},
		"trailer":                    {chunked("11\r\n" + theDevice + "\r\n0\r\nx-org-key: a\r\n\r\n"), 400, closed, nil, ""},
		"chunks beyond the limit":    {chunked("20000\r\n" + strings.Repeat(" ", 0x20000) + "\r\n0\r\n\r\n"), 413, kept, nil, ""},
		"body beyond the limit":      {strings.Replace(good, ": 17", fmt.Sprintf(": %d", 4*wire.MaxBatchBody), 1) + strings.Repeat(" ", 4*wire.MaxBatchBody), 413, closed, nil, ""},
		"truncated line":             {"POST /api/v1/dev", 400, cut, nil, ""},
		"truncated head":             {onValidate + "x-org-key: org_", 400, cut, nil, ""},
		"truncated body":             {strings.TrimSuffix(good, "}"), 400, cut, nil, ""},
		"no body":                    {strings.TrimSuffix(good, theDevice), 400, cut, nil, ""},
		"a refused request, another": {validate("X-Org-Key: a\r\n") + good, 400, closed, nil, ""},
		"closed, another":            {validate("Connection: close\r\n") + good + good, 200, closed, []string{"Connection", "close"}, "ALLOW"},
		"HTTP/1.0 closed, another":   {version("HTTP/1.0") + good, 200, closed, []string{"Connection", "close"}, ""},

		// Expect (9110, 10.1.1). What waits sends nothing more.
		"100 and its body":      {validate(expects), 200, kept, nil, ""},
		"417":                   {validate("Expect: tea\r\n"), 417, closed, nil, ""},
		"417 on a second line":  {validate(expects + "Expect: tea\r\n"), 417, closed, nil, ""},
		"413 instead of 100":    {strings.Replace(waits(onValidate, agentKey), ": 17", ": 70000", 1), 413, closed, nil, ""},
		"404 instead of 100":    {waits("POST /api/v1/nothing HTTP/1.1\r\n", ""), 404, closed, nil, ""},
		"405 instead of 100":    {waits("PUT /api/v1/devices/revoke HTTP/1.1\r\n", adminKey), 405, closed, []string{"Allow", "POST"}, ""},
		"401 instead of 100":    {waits("POST /api/v1/devices/revoke HTTP/1.1\r\n", "x-org-key: org_x\r\n"), 401, closed, []string{"Www-Authenticate", `ApiKey realm="machineid", in="header", name="x-org-key"`}, ""},
		"no key instead of 100": {waits("POST /api/v1/devices/revoke HTTP/1.1\r\n", ""), 400, closed, nil, ""},
		"400 instead of 100":    {waits(onValidate, "X-Org-Key: a\r\nX-Org-Key: b\r\n"), 400, closed, nil, ""},
		"HTTP/1.0 gets no 100":  {strings.Replace(validate(expects), "HTTP/1.1", "HTTP/1.0", 1), 200, closed, nil, ""},
		"without a body no 100": {usage(expects), 200, kept, nil, ""},

		// Entity tags (9110, 13.1) where there are any.
		"the document":           {document + "\r\n", 200, kept, []string{"Etag", "$TAG"}, ""},
		"the same":               {document + "If-None-Match: $TAG\r\n\r\n", 304, kept, []string{"Etag", "$TAG", "Cache-Control", "public, max-age=3600"}, ""},
		"the same, weakly":       {document + "If-None-Match: W/$TAG\r\n\r\n", 304, kept, nil, ""},
		"any":                    {document + "If-None-Match: *\r\n\r\n", 304, kept, nil, ""},
		"one of a list":          {document + `If-None-Match: "a", W/"b" , $TAG` + "\r\n\r\n", 304, kept, nil, ""},
		"one on a second line":   {document + "If-None-Match: \"a\"\r\nif-none-match: $TAG\r\n\r\n", 304, kept, nil, ""},
		"none of them":           {document + `If-None-Match: "a", "b"` + "\r\n\r\n", 200, kept, nil, ""},
		"the same, by HEAD":      {strings.Replace(document, "GET", "HEAD", 1) + "If-None-Match: $TAG\r\n\r\n", 304, kept, nil, ""},
		"only if it is the same": {document + "If-Match: $TAG\r\n\r\n", 200, kept, nil, ""},
		"only if it is another":  {document + "If-Match: W/$TAG\r\n\r\n", 412, kept, nil, ""},

		// Who asks (9110, 11.6.1 and 15.5.2).
		"a malformed key":            {strings.Replace(usage(""), "$ADMIN", "org_x", 1), 401, kept, []string{"Www-Authenticate", `ApiKey realm="machineid", in="header", name="x-org-key"`}, ""},
		"an operator":                {onUsage + host + operates + "\r\n", 200, kept, nil, ""},
		"a wrong token":              {onUsage + host + "Authorization: Bearer x\r\nX-MachineID-Org: $ORG\r\n\r\n", 401, kept, []string{"Www-Authenticate", `Bearer realm="machineid operators"`}, ""},
		"an operator validates":      {onValidate + host + operates + length + "\r\n" + theDevice, 200, kept, nil, "ALLOW"},
		"a wrong token validates":    {onValidate + host + "Authorization: Bearer x\r\nX-MachineID-Org: $ORG\r\n" + length + "\r\n" + theDevice, 200, kept, nil, "INVALID_ORG_KEY invalid_operator_token"},
		"an operator's batch":        {batch(operates), 200, kept, nil, ""},
		"a wrong token's batch":      {batch("Authorization: Bearer x\r\nX-MachineID-Org: $ORG\r\n"), 401, kept, nil, ""},
		"no id":                      {strings.Replace(good, `"d1"`, `null`, 1), 200, kept, nil, "INVALID_DEVICE_ID missing_params deviceId"},
		"a body that is none":        {strings.Replace(good, `:"d1"`, `: d1 `, 1), 200, kept, nil, "INVALID_DEVICE_ID missing_params body"},
		"a query that is none":       {"GET /api/v1/devices/validate?deviceId=%zz HTTP/1.1\r\n" + host + agentKey + "\r\n", 200, kept, nil, "INVALID_DEVICE_ID missing_params query"},
		"no key":                     {strings.Replace(good, agentKey, "", 1), 200, kept, nil, "INVALID_ORG_KEY missing_params x-org-key"},
		"a key that is none":         {strings.Replace(good, "$AGENT", "org_x", 1), 200, kept, nil, "INVALID_ORG_KEY invalid_org_key"},
		"an operator of no org":      {onValidate + host + "Authorization: Bearer $TOKEN\r\nX-MachineID-Org: $ADMIN\r\n" + length + "\r\n" + theDevice, 200, kept, nil, "INVALID_ORG_KEY missing_params X-MachineID-Org"},
		"the cap":                    {"POST /api/v1/devices/register HTTP/1.1\r\n" + host + agentKey + length + "\r\n" + `{"deviceId":"d9"}`, 403, kept, nil, "device_limit_reached d9"},
		"a recovery's wrong token":   {"POST /api/v1/org/recover/confirm HTTP/1.1\r\n" + host + length + "\r\n" + `{"token":"12345"}`, 401, kept, nil, ""},
		"preferred on a second line": {"POST /api/v1/devices/revoke HTTP/1.1\r\n" + host + adminKey + "Prefer: wait=1\r\nPrefer: respond-async\r\n" + length + "\r\n" + `{"deviceId":"d0"}`, 202, kept, []string{"Preference-Applied", "respond-async"}, ""},

		// What is read by a form of its own (docs/api.md).
		"an encoded id in a path":     {"GET /api/v1/operator/orgs/a%62c HTTP/1.1\r\n" + host + "\r\n", 404, kept, nil, ""},
		"a number in another form":    {"GET /api/v1/devices/list?limit=05 HTTP/1.1\r\n" + host + adminKey + "\r\n", 400, kept, nil, "missing_params limit"},
		"an empty Idempotency-Key":    {revoke("Idempotency-Key:\r\n"), 400, kept, nil, "missing_params Idempotency-Key"},
		"a long Idempotency-Key":      {revoke("Idempotency-Key: " + strings.Repeat("k", 256) + "\r\n"), 400, kept, nil, "missing_params Idempotency-Key"},
		"an Idempotency-Key in UTF-8": {revoke("Idempotency-Key: ü\r\n"), 400, kept, nil, "missing_params Idempotency-Key"},
		"two Idempotency-Keys":        {revoke("Idempotency-Key: a\r\nIdempotency-Key: a\r\n"), 400, closed, nil, ""},
	}
}

// TestHTTP holds both tiers to the table, over sockets: each answers as it says, alike in every word, and a request that follows is answered or not as it says.
func TestHTTP(t *testing.T) {
	t.Parallel()
	w := newHostileWorld(t)
	tags := map[string]string{} // each tier has a document of its own
	for tier, addr := range w.tiers() {
		said, err := talk(addr, document+"Connection: close\r\n\r\n", false)
		if err != nil || len(said) != 1 || said[0].header.Get("ETag") == "" {
			t.Fatalf("%s: %v, %v", tier, said, err)
		}
		tags[tier] = said[0].header.Get("ETag")
	}
	id, err := newClient(t, w.authority).get("org", w.full.admin)
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(w.dir, "authority", "operator-token"))
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("$AGENT", w.full.agent, "$ADMIN", w.full.admin, "$ORG", id.text("orgId"), "$TOKEN", strings.TrimSpace(string(token)))
	for name, row := range httpRows() {
		answers := map[string]said{}
		for tier, addr := range w.tiers() {
			raw, want := strings.ReplaceAll(filled.Replace(row.raw), "$TAG", tags[tier]), 1
			if row.end != cut && row.end != silent {
				raw += filled.Replace("GET /api/v1/devices/get?deviceId=d1 HTTP/1.1\r\n" + host + adminKey + "Connection: close\r\n\r\n")
			}
			if row.end == kept {
				want = 2
			}
			list, err := talk(addr, raw, row.end == cut)
			if err != nil || len(list) != want {
				t.Errorf("%s, %s: %d answers, want %d: %+v, %v", tier, name, len(list), want, list, err)
				continue
			}
			a := list[0]
			if a.header.Get("ETag") == tags[tier] {
				a.header.Set("ETag", "$TAG")
			}
			if a.status != row.status {
				t.Errorf("%s, %s: HTTP %d, want %d: %v", tier, name, a.status, row.status, a.body)
			}
			if want == 1 && row.end == closed && a.header.Get("Connection") != "close" {
				t.Errorf("%s, %s: the end is not announced: %v", tier, name, a.header)
			}
			if text := a.text(); row.says != "" && text != row.says {
				t.Errorf("%s, %s: says %q, want %q: %v", tier, name, text, row.says, a.body)
			}
			for i := 0; i < len(row.headers); i += 2 {
				if got := a.header.Get(row.headers[i]); got != filled.Replace(row.headers[i+1]) {
					t.Errorf("%s, %s: %s: %q", tier, name, row.headers[i], got)
				}
			}
			if a.status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s, %s: a 401 without a challenge", tier, name)
			}
			if a.status >= 400 && a.body["allowed"] == true || a.interim > 0 && row.status != http.StatusOK {
				t.Errorf("%s, %s: %+v", tier, name, a)
			}
			if a = a.alike(); a.header.Get("ETag") == "$TAG" && a.status == http.StatusOK {
				a.header.Del("Content-Length")
				a.body = nil
			}
			answers[tier] = a
		}
		if diff := cmp.Diff(answers["edge"], answers["authority"], cmp.AllowUnexported(said{})); diff != "" {
			t.Errorf("%s (-edge +authority):\n%s", name, diff)
		}
	}
}

// TestHTTPSeveralAtOnce: requests that come together are answered in their order, each by itself, and what the client's end cuts off is told last. Both tiers agree.
func TestHTTPSeveralAtOnce(t *testing.T) {
	t.Parallel()
	w := newHostileWorld(t)
	filled := strings.NewReplacer("$AGENT", w.full.agent, "$ADMIN", w.full.admin)
	all := onValidate + host + agentKey + chunks + "\r\n" + "11\r\n" + theDevice + "\r\n0\r\n\r\n"
	usage := onUsage + host + adminKey + "\r\n"
	alive := strings.Replace(strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), host, host+"Connection: keep-alive\r\n", 1)
	absolute := strings.Replace(usage, "/api", "http://other.example/api", 1)
	waits := onValidate + host + agentKey + expects + length + "\r\n"
	for name, row := range map[string]struct {
		raw      string
		statuses []int
		interim  int
	}{
		"alike":                {strings.Repeat(good, 40), slices.Repeat([]int{200}, 40), 0},
		"in turn":              {strings.Repeat(good+all+usage+alive+absolute, 8), slices.Repeat([]int{200}, 40), 0},
		"half a head last":     {good + usage + onValidate + host, []int{200, 200, 400}, 0},
		"half a body last":     {all + usage + good[:len(good)-1], []int{200, 200, 400}, 0},
		"half a chunk last":    {usage + all + all[:len(all)-9], []int{200, 200, 400}, 0},
		"a fault among them":   {good + all + "POST / HTTP/1.1\r\n\r\n" + good, []int{200, 200, 400}, 0},
		"a version among them": {good + strings.Replace(good, "/1.1", "/2.0", 1) + good, []int{200, 505}, 0},
		"a huge one":           {good + strings.Replace(good, ": 17", ": 9223372036854775808", 1) + good, []int{200, 413}, 0},
		"Expect among them":    {good + waits + theDevice + usage, []int{200, 200, 200}, 1},
		"Expect refused":       {good + strings.Replace(waits, ": 17", ": 70000", 1) + usage, []int{200, 413}, 0},
		"nothing there":        {good + strings.Replace(good, "validate", "nowhere", 1) + good, []int{200, 404, 200}, 0},
		"closed":               {good + strings.Replace(usage, host, host+"Connection: close\r\n", 1) + good, []int{200, 200}, 0},
		"line ends between":    {good + "\r\n\r\n" + good + "\r\n", []int{200, 200}, 0},
	} {
		for tier, addr := range w.tiers() {
			list, err := talk(addr, filled.Replace(row.raw), true)
			var statuses []int
			interim := 0
			for _, a := range list {
				statuses = append(statuses, a.status)
				interim += a.interim
			}
			if err != nil || !slices.Equal(statuses, row.statuses) || interim != row.interim {
				t.Errorf("%s, %s: %v and %d times 100, %v, want %v and %d", tier, name, statuses, interim, err, row.statuses, row.interim)
			}
		}
	}
}

// TestSilentWithinABody: who falls silent is told that it was late, at both tiers, and the connection ends.
func TestSilentWithinABody(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes the 10 s that a request may take to arrive")
	}
	w := newHostileWorld(t)
	for tier, addr := range w.tiers() {
		for _, raw := range []string{strings.TrimSuffix(good, "}"), onValidate + "x-org-key: org_", good + strings.TrimSuffix(good, "}"), good + onValidate, "\r\n"} {
			t.Run(tier, func(t *testing.T) {
				t.Parallel()
				list, err := talk(addr, strings.ReplaceAll(raw, "$AGENT", w.full.agent), false)
				if strings.HasPrefix(raw, good) && len(list) > 0 && list[0].status == http.StatusOK {
					list = list[1:]
				}
				if err != nil || len(list) != 1 || list[0].status != http.StatusRequestTimeout || list[0].body["allowed"] != false || list[0].header.Get("Connection") != "close" {
					t.Errorf("%+v, %v", list, err)
				}
			})
		}
	}
}
