package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"runtime"

	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// long is an answer with a list of any length. What is in the list is encoded as it is read, in the same turn: to encode all at once takes as long as to
// read it.
type long struct {
	list string // its name
	rest any    // the answer with the list empty
	items
}

// items are the encoded items of a list, with commas between them.
type items struct {
	buf bytes.Buffer
	enc *json.Encoder
}

func (i *items) add(item any) error {
	if i.enc == nil {
		i.enc = json.NewEncoder(&i.buf)
		i.enc.SetEscapeHTML(false)
	} else {
		i.buf.WriteByte(',')
	}
	if err := i.enc.Encode(item); err != nil {
		return err
	}
	i.buf.Truncate(i.buf.Len() - 1) // a line's end
	return nil
}

// body is the answer's.
func (l *long) body() []byte {
	var rest bytes.Buffer
	enc := json.NewEncoder(&rest)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l.rest); err != nil {
		panic(err) // a mistake of the program, as in wire.WriteJSON
	}
	// In a text a quotation mark has a backslash before it, so this is the member and nothing else.
	before, behind, _ := bytes.Cut(bytes.TrimSuffix(rest.Bytes(), []byte("\n")), []byte(`"`+l.list+`":[]`))
	body := make([]byte, 0, rest.Len()+len(l.list)+l.buf.Len())
	body = append(append(append(body, before...), '"'), l.list...)
	body = append(append(append(body, `":[`...), l.buf.Bytes()...), ']')
	return append(body, behind...)
}

// write answers with l.
func (r *request) write(l *long) {
	body := l.body()
	r.in.JSONBody(r.http, r.status, body)
	if rd := r.reading; rd != nil {
		rd.sends(len(body))
		wire.Hold(r.http, body, rd.leave)
	}
}

// reader is on whose behalf the request reads; known once its caller was admitted.
func (r *request) reader() reader {
	return reader{r.org, r.actor.GetType() == statepb.Actor_OPERATOR}
}

// pace is called before each record that a call reads.
func (r *request) pace(ctx context.Context) func() error {
	if rd := r.reading; rd != nil {
		return func() error { return rd.step(ctx) }
	}
	yield, records := yielding(), 0
	return func() error {
		if records++; records > readFree {
			return errLong
		}
		return yield()
	}
}

// yielding lets others run after every few records, for what reads without a turn: a crowd of such calls would else keep everybody waiting for as long as each
// takes, times their number.
func yielding() func() error {
	const each = 64
	records := 0
	return func() error {
		if records++; records%each == 0 {
			runtime.Gosched()
		}
		return nil
	}
}

// expect saves reading in vain what is known to need a turn.
func (r *request) expect(records int) error {
	if r.reading == nil && records > readFree {
		return errLong
	}
	return nil
}

// paced runs read, and again in turn if it needs more records than a call may read at once. A reading that the request keeps is given back
// when its answer has left.
func (r *request) paced(ctx context.Context, read func() (any, error)) (answer any, err error) {
	r.reads = true
	if answer, err = read(); !errors.Is(err, errLong) {
		return answer, err
	}
	if r.reading, err = r.api.turns.begin(ctx, r.reader()); err != nil {
		return nil, err
	}
	kept := false
	defer func() {
		if !kept {
			r.reading.leave()
			r.reading = nil
		}
	}()
	answer, err = read()
	_, kept = answer.(*long)
	kept = kept && err == nil
	return answer, err
}
