package cli

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Of the entries that stand for what is left out, the newest so many are looked at again, so often and for so long: each grows for an hour at most.
const (
	sumsMost  = 100
	sumsPause = 10 * time.Second
	sumsKept  = time.Hour + time.Minute
)

// auditSums are entries that grow after they were shown: their ids stay, so that nothing new comes.
type auditSums struct {
	list   []auditSum
	looked time.Time
}

type auditSum struct {
	id    string
	count int
	until time.Time
}

// note remembers what of a list, the newest first, may grow.
func (s *auditSums) note(list []auditView, now time.Time) {
	for _, e := range slices.Backward(list) {
		if at, err := time.Parse(time.RFC3339, e.At); e.LeftOut && (err != nil || now.Sub(at) < sumsKept) {
			s.list = append(s.list, auditSum{e.ID, e.Count, now.Add(sumsKept)})
		}
	}
	s.list = s.list[max(0, len(s.list)-sumsMost):]
}

// grown lists, the newest first, what has grown since it was noted or listed. It asks for each, once a sumsPause.
func (s *auditSums) grown(ctx context.Context, c *operatorClient, path string, now time.Time) (list []auditView, err error) {
	if now.Sub(s.looked) < sumsPause {
		return nil, nil
	}
	s.looked = now
	s.list = slices.DeleteFunc(s.list, func(one auditSum) bool { return now.After(one.until) })
	for i := range s.list {
		one := &s.list[i]
		page, _, err := auditPage(ctx, c, path, 1, cursorAt(one.id))
		if err != nil {
			return nil, err
		}
		if len(page) == 1 && page[0].ID == one.id && page[0].Count > one.count {
			one.count = page[0].Count
			list = append(list, page[0])
		}
	}
	slices.Reverse(list)
	return list, nil
}

// cursorAt is the cursor of the page that begins with an entry: that of what comes after it.
func cursorAt(id string) string {
	index, n, _ := strings.Cut(id, "-")
	place, _ := strconv.ParseUint(n, 10, 64)
	return index + "-" + strconv.FormatUint(place+1, 10)
}
