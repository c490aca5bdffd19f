package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"machineid/shared/wire"
)

// Reasons not to believe an answer of success, or of a refusal.
var (
	errOthersAnswer = errors.New("the answer is to another request: something on the way repeats old ones, or changes X-Request-Id; ask the node itself")
	errCachesAnswer = errors.New("the answer comes from a cache on the way (Age): ask the node itself")
)

// belongs refuses what may not be the answer to the very request with this id: an old one says that a revoke is in force, or that a backup is of now.
func belongs(resp *http.Response, id string) error {
	if _, cached := resp.Header["Age"]; cached {
		return errCachesAnswer
	}
	if ids := resp.Header.Values("X-Request-Id"); len(ids) != 1 || ids[0] != id {
		return errOthersAnswer
	}
	return nil
}

// answered is belongs for an answer of the API with a body, to a call of this path.
func answered(resp *http.Response, raw []byte, path, id string) error {
	if err := belongs(resp, id); err != nil {
		return err
	}
	var said struct {
		Handler   *string `json:"handler"`
		RequestID *string `json:"request_id"`
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return unreadable(err)
	}
	if said.RequestID != nil && *said.RequestID != id {
		return errOthersAnswer
	}
	path, _, _ = strings.Cut(path, "?")
	if r := wire.Match([]byte(wire.Base + path)); r != nil && said.Handler != nil && *said.Handler != r.Handler && *said.Handler != wire.UnknownHandler {
		return fmt.Errorf("%w (it is that of %s)", errOthersAnswer, *said.Handler)
	}
	return nil
}

// isObject reports whether an answer is JSON, in which no name is given twice: what one reader takes for a success another would not.
func isObject(resp *http.Response, raw []byte) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && kind == "application/json" && jsontext.Value(raw).Kind() == jsontext.KindBeginObject && jsontext.Value(raw).IsValid()
}
